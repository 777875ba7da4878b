// SPDX-License-Identifier: BSD-3-Clause
//
// Which changes are ready, which block each other, and which go together.

#include "volume/change_queue.h"

#include <deque>

#include "catch.h"

using upload::ByteRange;
using upload::volume::BatchLimits;
using upload::volume::Change;
using upload::volume::ChangeQueue;
using State = Change::State;

namespace {

const char kData[1] = {};
constexpr BatchLimits kLimits = {1000, 10000, 50, false};

// Changes with a queue around them.
struct Fixture {
  explicit Fixture(BatchLimits limits = kLimits) : queue(limits) {}

  Change& add(uint64_t offset, uint64_t length, bool zero = false, bool stable = false) {
    Change& change = changes.emplace_back();
    change.range = {offset, length};
    change.data = zero ? nullptr : kData;
    change.stable = stable;
    queue.add(change);
    return change;
  }
  Change& zero(uint64_t offset, uint64_t length) { return add(offset, length, true); }

  std::deque<Change> changes;
  ChangeQueue queue;
};

std::vector<uint64_t> offsets(const std::vector<Change*>& batch) {
  std::vector<uint64_t> result;
  for (const Change* change : batch) result.push_back(change->range.offset);
  return result;
}

using Offsets = std::vector<uint64_t>;

}  // namespace

TEST_CASE("adjacent writes go together, in the order of their offsets", "[queue]") {
  Fixture f;
  Change& middle = f.add(200, 100);
  f.add(300, 100);
  f.add(100, 100);
  f.add(500, 100);  // not adjacent
  CHECK(offsets(f.queue.take_batch(middle)) == Offsets{100, 200, 300});
  CHECK(f.queue.ready_count() == 1);
}

TEST_CASE("a batch does not grow beyond max-request, but a larger write goes alone", "[queue]") {
  Fixture f;
  Change& first = f.add(0, 400);
  f.add(400, 400);
  f.add(800, 400);
  CHECK(offsets(f.queue.take_batch(first)) == Offsets{0, 400});
  Change& large = f.add(10000, 5000);
  f.add(15000, 10);
  CHECK(offsets(f.queue.take_batch(large)) == Offsets{10000});
}

TEST_CASE("FUA writes do not mix with others", "[queue]") {
  Fixture f;
  Change& plain = f.add(0, 100);
  Change& fua = f.add(100, 100, false, true);
  f.add(200, 100, false, true);
  CHECK(offsets(f.queue.take_batch(plain)) == Offsets{0});
  CHECK(offsets(f.queue.take_batch(fua)) == Offsets{100, 200});
}

TEST_CASE("a small zero between data goes along as data", "[queue]") {
  Fixture f;
  Change& leader = f.add(0, 100);
  f.zero(100, 50);
  f.add(150, 100);
  CHECK(offsets(f.queue.take_batch(leader)) == Offsets{0, 100, 150});
}

TEST_CASE("a zero at the end of data stays out of the batch", "[queue]") {
  Fixture f;
  Change& leader = f.add(50, 100);
  f.zero(150, 50);
  f.zero(0, 50);
  CHECK(offsets(f.queue.take_batch(leader)) == Offsets{50});
  CHECK(f.queue.ready_count() == 2);
}

TEST_CASE("a large zero between data goes by itself", "[queue]") {
  Fixture f;
  Change& before = f.add(0, 100);
  Change& zero = f.zero(100, 51);
  Change& after = f.add(151, 100);
  CHECK(offsets(f.queue.take_batch(zero)) == Offsets{100});
  CHECK(offsets(f.queue.take_batch(before)) == Offsets{0});
  CHECK(offsets(f.queue.take_batch(after)) == Offsets{151});
}

TEST_CASE("small zeroes that add up to a large one are not carried as data", "[queue]") {
  Fixture f;
  Change& leader = f.add(0, 100);
  Change& zero = f.zero(100, 30);
  f.zero(130, 30);
  f.add(160, 100);
  CHECK(offsets(f.queue.take_batch(leader)) == Offsets{0});
  CHECK(offsets(f.queue.take_batch(zero)) == Offsets{100, 130});
}

TEST_CASE("a small zero that leads takes the data on both its sides", "[queue]") {
  Fixture f;
  Change& zero = f.zero(100, 50);
  f.add(0, 100);
  f.add(150, 100);
  f.add(250, 100);
  CHECK(offsets(f.queue.take_batch(zero)) == Offsets{0, 100, 150, 250});
}

TEST_CASE("a small zero with data on one side only is sent as a zero", "[queue]") {
  Fixture f;
  Change& zero = f.zero(100, 50);
  f.add(0, 100);
  CHECK(offsets(f.queue.take_batch(zero)) == Offsets{100});
}

TEST_CASE("adjacent zeroes merge up to their own limit", "[queue]") {
  Fixture f;
  f.zero(0, 4000);
  Change& leader = f.zero(4000, 4000);
  f.zero(8000, 4000);
  CHECK(offsets(f.queue.take_batch(leader)) == Offsets{4000, 8000});
}

TEST_CASE("where the server can't zero, zeroes are data of any size", "[queue]") {
  Fixture f({1000, 10000, 50, true});
  Change& zero = f.zero(100, 300);
  f.add(0, 100);
  f.zero(400, 300);
  CHECK(offsets(f.queue.take_batch(zero)) == Offsets{0, 100, 400});
}

TEST_CASE("an overlapping change waits until the earlier one is done", "[queue]") {
  Fixture f;
  Change& first = f.add(0, 100);
  Change& second = f.add(50, 100);
  Change& elsewhere = f.add(1000, 100);
  CHECK(second.state == State::kBlocked);
  CHECK(elsewhere.state == State::kReady);
  CHECK(f.queue.oldest_ready() == &first);
  const auto batch = f.queue.take_batch(first);
  CHECK(offsets(batch) == Offsets{0});
  CHECK(second.state == State::kBlocked);
  f.queue.finish(batch);
  CHECK(first.state == State::kDone);
  CHECK(second.state == State::kReady);
}

TEST_CASE("overlapping changes get ready in the order in which they came", "[queue]") {
  Fixture f;
  Change& first = f.add(0, 100);
  Change& second = f.add(50, 100);
  Change& third = f.add(120, 100);  // overlaps the second only
  Change& fourth = f.zero(0, 300);
  CHECK(third.state == State::kBlocked);
  // It stays so when something else is done, although nothing active overlaps it.
  Change& elsewhere = f.add(1000, 100);
  f.queue.finish(f.queue.take_batch(elsewhere));
  CHECK(third.state == State::kBlocked);
  f.queue.finish(f.queue.take_batch(first));
  CHECK(second.state == State::kReady);
  CHECK(third.state == State::kBlocked);
  f.queue.finish(f.queue.take_batch(second));
  CHECK(third.state == State::kReady);
  CHECK(fourth.state == State::kBlocked);
  f.queue.finish(f.queue.take_batch(third));
  CHECK(fourth.state == State::kReady);
  f.queue.finish(f.queue.take_batch(fourth));
  CHECK(f.queue.empty());
}

TEST_CASE("a blocked change that gives up unblocks those behind it", "[queue]") {
  Fixture f;
  Change& first = f.add(0, 100);
  Change& second = f.add(50, 100);
  Change& third = f.add(120, 20);
  f.queue.finish({&second});
  CHECK(third.state == State::kReady);
  CHECK(first.state == State::kReady);
}

TEST_CASE("random changes: none overlaps another that is ready or taken, none is lost",
          "[queue]") {
  uint64_t seed = 20260101;
  const auto random = [&](uint64_t below) {
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (seed >> 33) % below;
  };
  Fixture f({4000, 20000, 100, false});
  std::vector<std::vector<Change*>> in_flight;
  size_t done = 0;
  constexpr size_t kCount = 20000;
  for (size_t i = 0; i < kCount; ++i) {
    f.add(random(100) * 50, 50 * (1 + random(4)), random(4) == 0, random(8) == 0);
    while (in_flight.size() > random(4) || (i + 1 == kCount && !in_flight.empty())) {
      const size_t which = random(in_flight.size());
      done += in_flight[which].size();
      f.queue.finish(in_flight[which]);
      in_flight.erase(in_flight.begin() + static_cast<long>(which));
    }
    while (f.queue.ready_count() > 0 && (in_flight.size() < 4 || i + 1 == kCount)) {
      in_flight.push_back(f.queue.take_batch(*f.queue.oldest_ready()));
      std::map<uint64_t, uint64_t> taken;
      for (const auto& batch : in_flight)
        for (const Change* change : batch)
          taken.emplace(change->range.offset, change->range.end());
      uint64_t end = 0;
      for (const auto& [offset, stop] : taken) {
        REQUIRE(offset >= end);
        end = stop;
      }
      if (i + 1 == kCount) {
        done += in_flight.back().size();
        f.queue.finish(in_flight.back());
        in_flight.pop_back();
      }
    }
  }
  for (const auto& batch : in_flight) {
    done += batch.size();
    f.queue.finish(batch);
  }
  while (f.queue.ready_count() > 0) {
    const auto batch = f.queue.take_batch(*f.queue.oldest_ready());
    done += batch.size();
    f.queue.finish(batch);
  }
  CHECK(done == kCount);
  CHECK(f.queue.empty());
}

TEST_CASE("what nobody has in the queue is found", "[queue]") {
  Fixture f;
  CHECK(f.queue.free_from(7).offset == 7);
  CHECK(f.queue.free_from(7).end() == UINT64_MAX);
  Change& first = f.add(100, 100);
  f.add(200, 50);
  f.add(300, 100);
  CHECK(f.queue.free_from(0) == ByteRange{0, 100});
  CHECK(f.queue.free_from(40) == ByteRange{40, 60});
  CHECK(f.queue.free_from(100) == ByteRange{250, 50});
  CHECK(f.queue.free_from(150) == ByteRange{250, 50});
  CHECK(f.queue.free_from(260) == ByteRange{260, 40});
  CHECK(f.queue.free_from(399).offset == 400);
  CHECK(f.queue.is_free({0, 100}));
  CHECK_FALSE(f.queue.is_free({0, 101}));
  // One that is blocked is in the way, too.
  f.add(50, 100);
  CHECK(f.queue.free_from(0) == ByteRange{0, 100});
  CHECK(f.queue.is_free({0, 50}));
  CHECK_FALSE(f.queue.is_free({0, 51}));
  f.queue.finish({&first});
  CHECK(f.queue.free_from(0) == ByteRange{0, 50});
}

TEST_CASE("what nobody has in the queue is counted in whole blocks", "[queue]") {
  BatchLimits limits = kLimits;
  limits.block = 64;
  Fixture f(limits);
  f.add(70, 10);
  f.add(130, 1);
  CHECK(f.queue.free_from(0) == ByteRange{0, 64});
  CHECK(f.queue.free_from(64).offset == 192);
  CHECK(f.queue.free_from(10) == ByteRange{10, 54});
}

TEST_CASE("changes that touch the same block overlap where the server takes whole blocks",
          "[queue]") {
  BatchLimits limits = kLimits;
  limits.block = 512;
  limits.max_request = 2048;
  Fixture f(limits);
  Change& part = f.add(100, 100);
  Change& neighbour = f.add(200, 100);
  Change& other = f.add(512, 512);
  Change& across = f.add(1000, 600);
  CHECK(part.state == State::kReady);
  CHECK(neighbour.state == State::kBlocked);
  CHECK(other.state == State::kReady);
  CHECK(across.state == State::kBlocked);
  f.queue.check();
  f.queue.finish(f.queue.take_batch(part));
  CHECK(neighbour.state == State::kReady);
  CHECK(across.state == State::kBlocked);
  f.queue.finish(f.queue.take_batch(other));
  CHECK(across.state == State::kReady);
  f.queue.check();
  f.queue.finish({&neighbour, &across});
  CHECK(f.queue.empty());
}

TEST_CASE("a batch is no larger than a request with the rest of its blocks", "[queue]") {
  BatchLimits limits = kLimits;
  limits.block = 512;
  limits.max_request = 2048;
  Fixture f(limits);
  Change& head = f.add(300, 212);
  f.add(512, 1024);
  f.add(1536, 600);  // to the next page, with which the request is too large
  CHECK(offsets(f.queue.take_batch(head)) == Offsets{300, 512});
}
