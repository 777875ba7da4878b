// SPDX-License-Identifier: BSD-3-Clause

#include "journal/replay_log.h"

#include <cstring>
#include <string>

#include "catch.h"

using upload::ByteRange;
using upload::journal::Memory;
using upload::journal::ReplayLog;
using upload::journal::Slice;
using Wait = ReplayLog::Wait;
using Ids = std::vector<upload::http::ConnectionId>;

namespace {

struct Fixture {
  explicit Fixture(uint64_t limit = 1 << 20)
      : memory(std::make_shared<Memory>(limit)), log(memory) {}

  void write(uint64_t offset, const std::string& text, uint64_t connection) {
    REQUIRE(memory->reserve(ReplayLog::cost(text.size())));
    log.add(ReplayLog::make_record(memory, {offset, text.size()}, ++change, text.data()), connection);
  }
  void zero(uint64_t offset, uint64_t length, uint64_t connection) {
    REQUIRE(memory->reserve(ReplayLog::cost(0)));
    log.add(ReplayLog::make_record(memory, {offset, length}, ++change, nullptr), connection);
  }
  // What the log has in a range; '.' for what it has not, '0' for zeroes.
  std::string content(ByteRange range, bool orphans = false) const {
    std::string text(range.length, '.');
    for (const Slice& slice : log.slices(range)) {
      if (orphans && slice.connection != ReplayLog::kNone) continue;
      char* const to = text.data() + (slice.range.offset - range.offset);
      if (const auto* from = slice.record->at(slice.range.offset))
        memcpy(to, from, slice.range.length);
      else
        memset(to, '0', slice.range.length);
    }
    return text;
  }

  std::shared_ptr<Memory> memory;
  ReplayLog log;
  uint64_t change = 0;
};

}  // namespace

TEST_CASE("of each byte the newest content is kept", "[log]") {
  Fixture f;
  f.write(0, "aaaaaaaa", 1);
  f.write(2, "bb", 2);
  f.zero(6, 4, 1);
  CHECK(f.content({0, 12}) == "aabbaa0000..");
  CHECK(f.content({3, 4}) == "baa0");
}

TEST_CASE("a flush drops what its connection carried, and nothing else", "[log]") {
  Fixture f;
  f.write(0, "aaaa", 1);
  f.write(2, "bbbb", 2);
  f.log.flushed(1);
  CHECK(f.content({0, 6}) == "..bbbb");
  f.log.flushed(2);
  CHECK(f.log.empty());
  CHECK(f.memory->used() == 0);
}

TEST_CASE("what a lost connection carried is orphaned until it was sent again", "[log]") {
  Fixture f;
  f.write(0, "aaaa", 1);
  f.write(4, "bbbb", 2);
  f.write(8, "cccc", 1);
  CHECK_FALSE(f.log.has_orphans());
  CHECK_FALSE(f.log.lost(7));
  CHECK(f.log.lost(1));
  CHECK(f.log.has_orphans());
  CHECK(f.log.orphan_bytes() == 8);
  CHECK(f.content({0, 12}, true) == "aaaa....cccc");
  const auto first = f.log.first_orphans(1000);
  REQUIRE(first);
  CHECK(*first == ByteRange{0, 4});
  f.log.supersede(*first);
  CHECK(f.content({0, 12}, true) == "........cccc");
  CHECK(f.content({0, 12}) == "....bbbbcccc");
}

TEST_CASE("adjacent orphans come together, up to a size", "[log]") {
  Fixture f;
  f.write(0, "aaaa", 1);
  f.write(4, "bbbb", 1);
  f.write(8, "cccc", 1);
  f.write(20, "dddd", 1);
  f.log.lost(1);
  CHECK(*f.log.first_orphans(1000) == ByteRange{0, 12});
  CHECK(*f.log.first_orphans(8) == ByteRange{0, 8});
  CHECK(*f.log.first_orphans(1) == ByteRange{0, 4});
}

TEST_CASE("newer content that is stable drops older content from the log", "[log]") {
  Fixture f;
  f.write(0, "aaaa", 1);
  f.log.supersede({1, 2});
  CHECK(f.content({0, 4}) == "a..a");
  f.log.lost(1);
  CHECK(f.content({0, 4}, true) == "a..a");
}

TEST_CASE("which connections a flush has to reach", "[log]") {
  Fixture f;
  f.write(0, "aaaa", 1);
  f.write(4, "bbbb", 2);
  const uint64_t before = f.log.last_sequence();
  f.write(8, "cccc", 3);
  CHECK(f.log.to_flush(before) == Ids{1, 2});
  CHECK(f.log.to_flush(f.log.last_sequence()) == Ids{1, 2, 3});
  f.log.flushed(1);
  CHECK(f.log.to_flush(before) == Ids{2});
  f.log.lost(2);
  CHECK(f.log.to_flush(before).empty());
  CHECK(f.log.waits_for(Wait::kOrphans, before));
}

TEST_CASE("content that newer content hides still has to be flushed", "[log]") {
  Fixture f;
  f.write(0, "aaaa", 1);
  const uint64_t before = f.log.last_sequence();
  f.write(0, "AAAA", 2);
  CHECK(f.log.to_flush(before) == Ids{1});
  f.log.flushed(1);
  CHECK(f.log.to_flush(before).empty());  // not for ever, if it is written again and again
}

TEST_CASE("what hides lost content has to be stable in its place", "[log]") {
  Fixture f;
  f.write(0, "aaaa", 1);
  const uint64_t before = f.log.last_sequence();
  f.write(0, "AAAA", 2);
  CHECK(f.log.lost(1));
  CHECK_FALSE(f.log.has_orphans());
  CHECK(f.log.to_flush(before) == Ids{2});
  f.log.lost(2);
  f.write(2, "b", 3);  // hides a part of an orphan
  CHECK(f.log.to_flush(before) == Ids{3});
  CHECK(f.log.waits_for(Wait::kOrphans, before));
  f.log.supersede({0, 4});
  CHECK_FALSE(f.log.waits_for(Wait::kOrphans, before));
}

TEST_CASE("what is in the spool hides content too", "[log]") {
  Fixture f;
  f.write(0, "aaaa", 1);
  const uint64_t before = f.log.last_sequence();
  upload::journal::SpoolRow row;
  row.id = 1;
  row.sequence = 9;
  row.range = {0, 2};
  f.log.move(ReplayLog::make_record(row));
  CHECK(f.log.waits_for(Wait::kRows, before));
  CHECK(f.log.waits_for(Wait::kMemory, before));
  CHECK_FALSE(f.log.waits_for(Wait::kOrphans, before));
  row.id = 2;
  row.range = {0, 4};
  f.log.add(ReplayLog::make_record(row), ReplayLog::kNone);
  CHECK(f.log.waits_for(Wait::kRows, before));
  CHECK_FALSE(f.log.waits_for(Wait::kMemory, before));
  CHECK_FALSE(f.log.first_in_memory(10));
}

TEST_CASE("memory counts from its reservation until the last byte has gone", "[log]") {
  Fixture f(12000);
  CHECK(f.memory->reserve(6000));
  CHECK_FALSE(f.memory->reserve(6001));
  CHECK(f.log.half_full());
  f.memory->unreserve(6000);
  f.write(0, std::string(4000, 'a'), 1);
  const uint64_t used = f.memory->used();
  CHECK(used == ReplayLog::cost(4000));
  f.write(0, "b", 2);
  CHECK(f.memory->used() == used + ReplayLog::cost(1));
  f.log.supersede({1, 3998});
  CHECK(f.memory->used() == used + ReplayLog::cost(1));  // one byte is still needed
  const auto held = f.log.slices({3999, 1});
  f.log.supersede({3999, 1});
  CHECK(f.memory->used() == used + ReplayLog::cost(1));  // and held by a reader
}

TEST_CASE("buffers that were given back are used again, within the limit", "[log]") {
  Memory memory(1 << 20);
  REQUIRE(memory.reserve(3 * 65536));
  auto first = memory.take(65536);
  const auto* const address = first.get();
  memory.give_back(std::move(first), 65536);
  CHECK(memory.take(60000).get() == address);
  CHECK(Memory::capacity(1) == 4096);
  CHECK(Memory::capacity(5000) == 8192);
  CHECK(Memory::capacity(65537) == 131072);
}
