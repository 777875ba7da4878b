// SPDX-License-Identifier: BSD-3-Clause
//
// Which rows there are, what they hide, and which go first.

#include "journal/spool_index.h"

#include <memory>

#include "catch.h"
#include "journal/unflushed.h"
#include "volume/drain_progress.h"

using upload::journal::Memory;
using upload::journal::SpoolIndex;
using upload::journal::SpoolRow;
using upload::journal::Unflushed;

namespace {

SpoolRow row(uint64_t id, uint64_t sequence, uint64_t offset, uint64_t length) {
  SpoolRow row;
  row.id = id;
  row.sequence = sequence;
  row.range = {offset, length};
  return row;
}

std::vector<uint64_t> oldest(const SpoolIndex& index, uint64_t most, size_t most_rows) {
  std::vector<uint64_t> ids;
  for (const SpoolRow& each : index.oldest({most, 1 << 20, most_rows, 1})) ids.push_back(each.id);
  return ids;
}

using Ids = std::vector<uint64_t>;

}  // namespace

TEST_CASE("a byte is in the spool until the last row about it is gone", "[index]") {
  SpoolIndex index;
  index.add(row(1, 1, 0, 10));
  index.add(row(2, 2, 5, 10));
  CHECK(index.overlaps({14, 1}));
  CHECK(!index.overlaps({15, 5}));
  index.remove(row(1, 1, 0, 10));
  CHECK(!index.overlaps({0, 5}));
  CHECK(index.overlaps({0, 6}));
  index.remove(row(2, 2, 5, 10));
  CHECK(!index.overlaps({0, 100}));
  CHECK(index.empty());
  CHECK(index.used() == 0);
}

TEST_CASE("the oldest by sequence come first, whenever they were added", "[index]") {
  SpoolIndex index;
  index.add(row(1, 7, 0, 10));
  index.add(row(2, 3, 10, 10));
  index.add(row(3, 3, 30, 10));
  index.add(row(4, 5, 50, 10));
  CHECK(oldest(index, 1000, 10) == Ids{2, 3, 4, 1});
  CHECK(oldest(index, 25, 10) == Ids{2, 3});
  CHECK(oldest(index, 1000, 1) == Ids{2});
  CHECK(oldest(index, 1, 10) == Ids{2});  // one at least
  CHECK(index.find(4)->sequence == 5);
  CHECK(index.find(5) == nullptr);
}

TEST_CASE("zeroes take hardly any room", "[index]") {
  SpoolIndex index;
  SpoolRow zeroes = row(1, 1, 0, 1 << 30);
  zeroes.zero = true;
  index.add(zeroes);
  CHECK(index.used() == SpoolIndex::cost(0));
  index.add(row(2, 2, 0, 4096));
  CHECK(index.used() == SpoolIndex::cost(0) + SpoolIndex::cost(4096));
  // But time at the server.
  zeroes.id = 3;
  index.add(zeroes);
  CHECK(index.oldest({1 << 20, uint64_t{1} << 30, 10, 1}).size() == 1);
  CHECK(index.oldest({1 << 20, uint64_t{2} << 30, 10, 1}).size() == 3);
}

TEST_CASE("rows go beside others only where they touch no block of an older one", "[index]") {
  SpoolIndex index;
  index.add(row(1, 1, 0, 10));
  index.add(row(2, 2, 100, 10));
  index.add(row(3, 3, 5, 10));    // hides a part of 1
  index.add(row(4, 4, 12, 10));   // and this of 3
  index.add(row(5, 5, 109, 1));   // of 2
  index.add(row(6, 6, 200, 10));  // of none
  CHECK(oldest(index, 10, 10) == Ids{1});
  index.set_busy(1, 7);
  CHECK(oldest(index, 1000, 10) == Ids{2, 5, 6});
  CHECK(oldest(index, 10, 10) == Ids{2});
  index.set_busy(2, 8);
  CHECK(oldest(index, 1000, 10) == Ids{6});
  index.remove(row(1, 1, 0, 10));
  CHECK(oldest(index, 1000, 10) == Ids{3, 4, 6});
  index.set_idle(2);
  CHECK(oldest(index, 1000, 10) == Ids{2, 3, 4, 5, 6});
  // Where the server takes blocks of 16 bytes, 4 touches one of 3, and 5 of 2; 6 touches none.
  index.set_busy(3, 9);
  CHECK(index.oldest({1000, 1000, 10, 16}).size() == 3);
  index.add(row(7, 7, 193, 2));
  index.set_busy(6, 10);
  CHECK(index.oldest({1000, 1000, 10, 1}).size() == 3);
  CHECK(index.oldest({1000, 1000, 10, 16}).size() == 2);
}

TEST_CASE("a row that somebody has taken is not dead before it is given back", "[index]") {
  Unflushed unflushed(std::make_shared<Memory>(1 << 20));
  const SpoolIndex::Most all{1000, 1000, 10, 1};
  unflushed.add_row(row(1, 1, 0, 10));
  std::vector<SpoolRow> taken = unflushed.take_oldest(all);
  REQUIRE(taken.size() == 1);
  CHECK(unflushed.take_oldest(all).empty());
  unflushed.add_row(row(2, 2, 0, 10));
  CHECK(unflushed.dead_rows() == 0);
  CHECK(unflushed.take_oldest(all).empty());  // it would go before 1
  unflushed.give_back(taken);
  CHECK(unflushed.dead_rows() == 1);
  unflushed.check(100);

  // Who takes it for sending has it for himself, and who drops it, too.
  taken = unflushed.take_oldest(all);
  CHECK(taken.size() == 2);
  CHECK(unflushed.dead_rows() == 0);
  unflushed.give_back(taken);
  const std::vector<uint64_t> dead = unflushed.take_dead_rows();
  CHECK(dead == Ids{1});
  CHECK(unflushed.take_oldest(all).empty());
  unflushed.dead_rows_dropped(dead, false);
  CHECK(unflushed.dead_rows() == 0);
  taken = unflushed.take_oldest(all);
  CHECK(taken.size() == 2);

  // Once it may be on the server in part it is not dead either.
  unflushed.begin_sending(taken);
  unflushed.give_back(taken);
  CHECK(unflushed.dead_rows() == 0);
  taken = unflushed.take_oldest(all);
  unflushed.rows_dropped(taken);
  CHECK(unflushed.rows().empty());
}

TEST_CASE("attempts that fail side by side count as one", "[index]") {
  using namespace std::chrono_literals;
  upload::volume::DrainProgress progress;
  const upload::TimePoint start{};
  CHECK(progress.failed(start, start + 10s, 2));
  CHECK_FALSE(progress.failed(start + 1s, start + 11s, 2));
  CHECK(progress.failed_attempts() == 1);
  CHECK(progress.failed(start + 10s, start + 12s, 2));
  CHECK(progress.failed_attempts() == 2);
  CHECK(progress.failing_since() == start + 10s);
  progress.succeeded();
  // The server has taken something after it began, but nothing since.
  progress.failed(start + 2s, start + 20s, 2);
  CHECK(progress.failed_attempts() == 1);
  CHECK(progress.failing_since() == start + 20s);
}
