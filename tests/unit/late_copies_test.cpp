// SPDX-License-Identifier: BSD-3-Clause

#include "volume/late_copies.h"

#include "catch.h"

using namespace std::chrono_literals;
using upload::TimePoint;
using upload::volume::LateCopies;

namespace {
const TimePoint kNow(1h);
}

TEST_CASE("another change waits where a late copy may come, the same does not", "[late]") {
  LateCopies late;
  late.add({10, 10}, 3, 3, kNow + 60s);
  CHECK(late.until({0, 11}, 4, kNow) == kNow + 60s);
  CHECK(!late.until({0, 11}, 3, kNow));
  CHECK(!late.until({0, 10}, 4, kNow));
  CHECK(late.until({19, 1}, 0, kNow) == kNow + 60s);
}

TEST_CASE("of several the last counts, and what is over is forgotten", "[late]") {
  LateCopies late;
  late.add({0, 10}, 1, 5, kNow + 10s);
  late.add({0, 10}, 6, 6, kNow + 20s);
  CHECK(late.until({0, 1}, 6, kNow) == kNow + 10s);
  CHECK(late.until({0, 1}, 2, kNow) == kNow + 20s);
  CHECK(late.until({0, 1}, 7, kNow) == kNow + 20s);
  CHECK(late.until({0, 1}, 7, kNow + 10s) == kNow + 20s);
  CHECK(late.count() == 1);
  CHECK(!late.until({0, 1}, 7, kNow + 20s));
}

TEST_CASE("the same that fails again is one entry, with the later end", "[late]") {
  LateCopies late;
  late.add({0, 10}, 1, 1, kNow + 10s);
  late.add({0, 10}, 1, 1, kNow + 15s);
  late.add({0, 10}, 1, 1, kNow + 12s);
  CHECK(late.count() == 1);
  CHECK(late.until({0, 1}, 2, kNow) == kNow + 15s);
}
