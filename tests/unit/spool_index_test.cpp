// SPDX-License-Identifier: BSD-3-Clause
//
// Which rows there are, what they hide, and which go first.

#include "journal/spool_index.h"

#include "catch.h"

using upload::journal::SpoolIndex;
using upload::journal::SpoolRow;

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
  for (const SpoolRow& each : index.oldest(most, 1 << 20, most_rows)) ids.push_back(each.id);
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
  CHECK(index.oldest(1 << 20, uint64_t{1} << 30, 10).size() == 1);
  CHECK(index.oldest(1 << 20, uint64_t{2} << 30, 10).size() == 3);
}
