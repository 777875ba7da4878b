// SPDX-License-Identifier: BSD-3-Clause
//
// Until when a request that has failed may yet be applied.

#include "volume/late_copies.h"

#include <chrono>

#include "catch.h"

using upload::TimePoint;
using upload::volume::LateCopies;
using namespace std::chrono_literals;

namespace {

const TimePoint kNow(1h);

}  // namespace

TEST_CASE("another change waits where a late copy may come, the same does not", "[late]") {
  LateCopies late(60s);
  late.add({10, 10}, 3, kNow);
  CHECK(late.until({0, 11}, 4, kNow) == LateCopies::kUnknown);
  CHECK(late.answered(kNow, kNow));
  CHECK(late.until({0, 11}, 4, kNow) == kNow + 60s);
  CHECK(!late.until({0, 11}, 3, kNow));
  CHECK(!late.until({0, 10}, 4, kNow));
  CHECK(late.until({19, 1}, 0, kNow) == kNow + 60s);
}

TEST_CASE("the time counts from the server's answer to a request begun since", "[late]") {
  LateCopies late(10s);
  late.add({0, 10}, 1, kNow);
  CHECK(late.any_unknown());
  // A reply to what was asked before the failure says nothing.
  CHECK(!late.answered(kNow - 1ms, kNow + 5s));
  CHECK(late.until({0, 1}, 2, kNow + 1h) == LateCopies::kUnknown);
  CHECK(late.answered(kNow + 1h, kNow + 1h + 1s));
  CHECK(!late.any_unknown());
  CHECK(late.until({0, 1}, 2, kNow + 1h) == kNow + 1h + 11s);
  CHECK(late.last(kNow + 1h) == kNow + 1h + 11s);
  CHECK(!late.last(kNow + 1h + 11s));
}

TEST_CASE("of several the last counts, and what is over is forgotten", "[late]") {
  LateCopies late(10s);
  late.add_until({0, 10}, 1, 5, kNow + 10s);
  late.add_until({0, 10}, 6, 6, kNow + 20s);
  CHECK(late.until({0, 1}, 6, kNow) == kNow + 10s);
  CHECK(late.until({0, 1}, 2, kNow) == kNow + 20s);
  CHECK(late.until({0, 1}, 7, kNow) == kNow + 20s);
  CHECK(late.until({0, 1}, 7, kNow + 10s) == kNow + 20s);
  CHECK(late.count() == 1);
  CHECK(!late.until({0, 1}, 7, kNow + 20s));
}

TEST_CASE("the same that fails again is one entry, and its time begins again", "[late]") {
  LateCopies late(10s);
  late.add({0, 10}, 1, kNow);
  CHECK(late.answered(kNow, kNow));
  late.add({0, 10}, 1, kNow + 5s);
  CHECK(late.count() == 1);
  CHECK(late.until({0, 1}, 2, kNow + 15s) == LateCopies::kUnknown);
  CHECK(late.answered(kNow + 6s, kNow + 7s));
  CHECK(late.until({0, 1}, 2, kNow + 8s) == kNow + 17s);
}
