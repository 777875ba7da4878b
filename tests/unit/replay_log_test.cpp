// SPDX-License-Identifier: BSD-3-Clause
//
// What the log keeps of each byte, by hand and against a model that has an array of bytes.

#include "journal/replay_log.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "catch.h"

using upload::ByteRange;
using upload::journal::Memory;
using upload::journal::ReplayLog;
using upload::journal::Slice;
using Wait = ReplayLog::Wait;
using Ids = std::vector<upload::ConnectionId>;

namespace {

struct Fixture {
  explicit Fixture(uint64_t limit = 1 << 20)
      : memory(std::make_shared<Memory>(limit)), log(memory) {}

  void write(uint64_t offset, const std::string& text, uint64_t connection) {
    REQUIRE(memory->reserve(ReplayLog::cost(text.size())));
    log.add(ReplayLog::make_record(memory, {offset, text.size()}, ++change, text.data()),
            connection);
  }
  void zero(uint64_t offset, uint64_t length, uint64_t connection) {
    REQUIRE(memory->reserve(ReplayLog::cost(0)));
    log.add(ReplayLog::make_record(memory, {offset, length}, ++change, nullptr), connection);
  }
  void unsent(uint64_t offset, const std::string& text) {
    REQUIRE(memory->reserve(ReplayLog::cost(text.size())));
    log.add_unsent(ReplayLog::make_record(memory, {offset, text.size()}, ++change, text.data()));
  }
  void unsent_zero(uint64_t offset, uint64_t length) {
    REQUIRE(memory->reserve(ReplayLog::cost(0)));
    log.add_unsent(ReplayLog::make_record(memory, {offset, length}, ++change, nullptr));
  }
  // What the log has in a range; '.' for what it has not, '0' for zeroes.
  std::string content(ByteRange range, bool orphans = false) const {
    std::string text(range.length, '.');
    for (const Slice& slice : log.slices(range)) {
      if (orphans && slice.connection != upload::kNoConnection) continue;
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
  CHECK_FALSE(f.log.has_orphans_or_rows());
  CHECK_FALSE(f.log.lost(7));
  CHECK(f.log.lost(1));
  CHECK(f.log.has_orphans_or_rows());
  CHECK(f.log.bytes_to_send() == 8);
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
  const uint64_t before = f.log.acknowledged();
  f.write(8, "cccc", 3);
  CHECK(f.log.to_flush(before) == Ids{1, 2});
  CHECK(f.log.to_flush(f.log.acknowledged()) == Ids{1, 2, 3});
  f.log.flushed(1);
  CHECK(f.log.to_flush(before) == Ids{2});
  f.log.lost(2);
  CHECK(f.log.to_flush(before).empty());
  CHECK(f.log.waits_for(Wait::kSending, before));
}

TEST_CASE("content that newer content hides still has to be flushed", "[log]") {
  Fixture f;
  f.write(0, "aaaa", 1);
  const uint64_t before = f.log.acknowledged();
  f.write(0, "AAAA", 2);
  CHECK(f.log.to_flush(before) == Ids{1});
  f.log.flushed(1);
  CHECK(f.log.to_flush(before).empty());  // not for ever, if it is written again and again
}

TEST_CASE("what hides lost content has to be stable in its place", "[log]") {
  Fixture f;
  f.write(0, "aaaa", 1);
  const uint64_t before = f.log.acknowledged();
  f.write(0, "AAAA", 2);
  CHECK(f.log.lost(1));
  CHECK_FALSE(f.log.has_orphans_or_rows());
  CHECK(f.log.to_flush(before) == Ids{2});
  f.log.lost(2);
  f.write(2, "b", 3);  // hides a part of an orphan
  CHECK(f.log.to_flush(before) == Ids{3});
  CHECK(f.log.waits_for(Wait::kSending, before));
  f.log.supersede({0, 4});
  CHECK_FALSE(f.log.waits_for(Wait::kSending, before));
}

TEST_CASE("what is in the spool hides content too", "[log]") {
  Fixture f;
  f.write(0, "aaaa", 1);
  const uint64_t before = f.log.acknowledged();
  upload::journal::SpoolRow row;
  row.id = 1;
  row.sequence = 9;
  row.range = {0, 2};
  f.log.move(ReplayLog::make_record(row));
  CHECK(f.log.waits_for(Wait::kRows, before));
  CHECK(f.log.waits_for(Wait::kMemory, before));
  CHECK_FALSE(f.log.waits_for(Wait::kSending, before));
  row.id = 2;
  row.range = {0, 4};
  f.log.add(ReplayLog::make_record(row), upload::kNoConnection);
  CHECK(f.log.waits_for(Wait::kRows, before));
  CHECK_FALSE(f.log.waits_for(Wait::kMemory, before));
  CHECK_FALSE(f.log.first_in_memory(10));
}

TEST_CASE("what was acknowledged before it is sent waits for that, and then for a flush",
          "[log]") {
  Fixture f;
  f.unsent(0, "aaaa");
  f.unsent(4, "bbbb");
  const uint64_t before = f.log.acknowledged();
  f.unsent(8, "cccc");
  CHECK(f.log.unsent_bytes() == 12);
  CHECK(f.log.waits_for(Wait::kSending, before));
  CHECK(f.log.to_flush(before).empty());
  f.log.sent({2, 4}, 1);
  CHECK(f.log.waits_for(Wait::kSending, before));
  CHECK(f.log.to_flush(before) == Ids{1});
  f.log.sent({0, 8}, 2);
  CHECK_FALSE(f.log.waits_for(Wait::kSending, before));
  CHECK(f.log.to_flush(before) == Ids{1, 2});
  CHECK(f.log.unsent_bytes() == 4);
  f.log.flushed(1);
  f.log.flushed(2);
  CHECK(f.content({0, 12}) == "........cccc");
}

TEST_CASE("what hides something that was never sent has to be stable in its place", "[log]") {
  Fixture f;
  f.unsent(0, "a");
  const uint64_t before = f.log.acknowledged();
  f.unsent(0, "b");
  CHECK(f.log.waits_for(Wait::kSending, before));
  f.log.sent({0, 1}, 7);
  CHECK(f.log.to_flush(before) == Ids{7});
}

TEST_CASE("what hides a connection's is needed only when that is lost", "[log]") {
  Fixture f;
  f.write(0, "aaaa", 1);
  const uint64_t before = f.log.acknowledged();
  f.unsent(0, "bb");
  f.unsent(1, "cc");
  CHECK_FALSE(f.log.waits_for(Wait::kSending, before));
  CHECK(f.log.to_flush(before) == Ids{1});
  SECTION("before it is sent") {
    f.log.lost(1);
    CHECK(f.log.waits_for(Wait::kSending, before));
    f.log.supersede({3, 1});
    CHECK(f.log.waits_for(Wait::kSending, before));
    f.log.sent({0, 3}, 2);
    CHECK(f.log.to_flush(before) == Ids{2});
  }
  SECTION("after it was sent") {
    f.log.sent({0, 3}, 2);
    CHECK(f.log.to_flush(before) == Ids{1});
    f.log.lost(1);
    f.log.supersede({3, 1});
    CHECK(f.log.to_flush(before) == Ids{2});
  }
}

TEST_CASE("what is unsent goes in runs of one kind, as large as a request", "[log]") {
  Fixture f;
  const auto run = [&](ByteRange within, const ReplayLog::Most& most) {
    std::string text;
    for (const Slice& slice : f.log.first_unsent(within, most)) text += f.content(slice.range);
    return text;
  };
  f.unsent(0, "aa");
  f.unsent_zero(2, 2);
  f.unsent(4, "bb");
  f.unsent_zero(6, 8);
  f.unsent(14, "cc");
  f.unsent(20, "dd");
  CHECK(run({0, 100}, {6, 100}) == "aa00bb");
  CHECK(run({0, 100}, {5, 100}) == "aa00");
  CHECK(run({1, 4}, {100, 100}) == "a00b");
  CHECK(run({6, 100}, {8, 100}) == "00000000");
  CHECK(run({16, 100}, {8, 100}) == "dd");
  CHECK(run({22, 100}, {8, 100}).empty());
  CHECK(run({0, 100}, {1, 100}) == "aa");  // one alone may be larger
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
  CHECK(Memory::capacity(1) == 512);
  CHECK(Memory::capacity(5000) == 8192);
  CHECK(Memory::capacity(65537) == 131072);
}

TEST_CASE("small buffers are cut from one block, as many as may be kept") {
  Memory memory(2048);
  REQUIRE(memory.reserve(512));
  const Memory::Buffer first = memory.take(500);
  CHECK(first.use_count() == 4);
  REQUIRE(memory.reserve(512));
  const Memory::Buffer second = memory.take(512);
  CHECK(second.get() == first.get() + 512);
  // What is kept makes room for another size.
  REQUIRE(memory.reserve(1024));
  const Memory::Buffer other = memory.take(1000);
  CHECK(first.use_count() == 2);  // with the second, and none that is kept
}

TEST_CASE("a log has its own memory whatever the others have borrowed", "[log]") {
  const auto common = std::make_shared<upload::journal::CommonMemory>(100);
  Memory one(50, common);
  Memory two(50, common);
  CHECK(one.limit() == 150);
  CHECK(one.left() == 150);
  REQUIRE(one.reserve(150));
  CHECK_FALSE(one.reserve(1));
  CHECK(two.left() == 50);
  CHECK_FALSE(two.reserve(51));
  REQUIRE(two.reserve(50));
  // What was borrowed last is given back first.
  one.unreserve(30);
  CHECK(two.left() == 30);
  REQUIRE(two.reserve(30));
  CHECK(one.left() == 0);
  one.unreserve(120);
  CHECK(one.own_left() == 50);
  CHECK(common->left() == 70);
  two.unreserve(80);
  CHECK(common->left() == 100);
}

TEST_CASE("threads that borrow and give back leave nothing behind", "[log]") {
  const auto common = std::make_shared<upload::journal::CommonMemory>(64);
  Memory one(32, common);
  Memory two(32, common);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&memory = i % 2 == 0 ? one : two] {
      for (int k = 0; k < 20000; ++k)
        if (memory.reserve(20)) memory.unreserve(20);
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(one.used() + two.used() == 0);
  CHECK(common->left() == 64);
}

namespace {

using upload::journal::SpoolRow;

// What the log should know, byte by byte, in the plainest way.
struct Model {
  struct Byte {
    uint64_t change = 0;  // whose content is the newest; 0: the byte is stable
    uint64_t connection = 0;
    uint64_t since = 0;
    bool row = false;
    bool unsent = false;
    // Of what is unsent: but for what it hides of connections that are there.
    uint64_t needed = 0;
  };
  explicit Model(uint64_t size) : bytes(size) {}

  void add(ByteRange range, uint64_t change, uint64_t connection, bool row, bool unsent = false) {
    uint64_t since = ++sequence;
    uint64_t for_orphans = since;
    for (uint64_t at = range.offset; at < range.end(); ++at) {
      if (bytes[at].change == 0) continue;
      since = std::min(since, bytes[at].since);
      if (bytes[at].connection == 0)
        for_orphans =
            std::min(for_orphans, bytes[at].unsent ? bytes[at].needed : bytes[at].since);
    }
    for (uint64_t at = range.offset; at < range.end(); ++at)
      bytes[at] = {change, connection, since, row, unsent, for_orphans};
    if (connection == 0) return;
    const auto dirty_since = dirty.emplace(connection, sequence).first;
    dirty_since->second = std::min(dirty_since->second, for_orphans);
  }
  void sent(ByteRange range, uint64_t connection) {
    for (uint64_t at = range.offset; at < range.end(); ++at) {
      Byte& byte = bytes[at];
      if (!byte.unsent) continue;
      const auto dirty_since = dirty.emplace(connection, byte.needed).first;
      dirty_since->second = std::min(dirty_since->second, byte.needed);
      byte = {byte.change, connection, byte.since};
    }
  }
  void flushed(uint64_t connection) {
    dirty.erase(connection);
    for (Byte& byte : bytes)
      if (byte.change != 0 && byte.connection == connection) byte = {};
  }
  void lost(uint64_t connection) {
    if (dirty.erase(connection) == 0) return;
    for (Byte& byte : bytes) {
      if (byte.unsent) byte.needed = byte.since;
      if (byte.change == 0 || byte.connection == 0) continue;
      if (byte.connection == connection)
        byte.connection = 0;
      else
        dirty[byte.connection] = std::min(dirty[byte.connection], byte.since);
    }
  }
  void move(ByteRange range, uint64_t change) {
    for (uint64_t at = range.offset; at < range.end(); ++at)
      if (bytes[at].change != 0 && !bytes[at].row) bytes[at] = {change, 0, bytes[at].since, true};
  }
  Ids to_flush(uint64_t up_to) const {
    Ids ids;
    for (const auto& [connection, since] : dirty)
      if (since <= up_to) ids.push_back(connection);
    return ids;
  }
  // Of connections, rows, or what is to be sent, if `to_send`.
  bool any(uint64_t up_to, bool row, bool to_send) const {
    return std::any_of(bytes.begin(), bytes.end(), [&](const Byte& byte) {
      if (byte.change == 0 || byte.row != row) return false;
      if (byte.unsent) return to_send ? byte.needed <= up_to : true;
      return byte.since <= up_to && (!to_send || byte.connection == 0);
    });
  }

  std::vector<Byte> bytes;
  std::map<uint64_t, uint64_t> dirty;
  uint64_t sequence = 0;
};

void check_same(const Fixture& f, const Model& model, uint64_t up_to) {
  std::vector<Model::Byte> bytes(model.bytes.size());
  uint64_t to_send = 0;
  for (const Slice& slice : f.log.slices({0, bytes.size()}))
    for (uint64_t at = slice.range.offset; at < slice.range.end(); ++at) {
      REQUIRE(bytes[at].change == 0);  // no byte twice
      bytes[at] = {slice.record->sequence, slice.connection, 0, slice.record->row != 0};
      to_send += slice.connection == upload::kNoConnection ? 1 : 0;
    }
  const auto unsent =
      static_cast<uint64_t>(std::count_if(model.bytes.begin(), model.bytes.end(),
                                          [](const Model::Byte& byte) { return byte.unsent; }));
  const bool same = std::equal(
      bytes.begin(), bytes.end(), model.bytes.begin(), [](const auto& one, const auto& other) {
        return one.change == other.change && one.connection == other.connection &&
               one.row == other.row;
      });
  REQUIRE(same);
  REQUIRE(f.log.bytes_to_send() == to_send);
  REQUIRE(f.log.unsent_bytes() == unsent);
  REQUIRE(f.log.has_orphans_or_rows() == (to_send > unsent));
  // The first run of what is unsent is as long as it is adjacent.
  const std::vector<Slice> run = f.log.first_unsent({0, bytes.size()}, {1000, 1000});
  uint64_t at = 0;
  while (at < bytes.size() && !model.bytes[at].unsent) ++at;
  for (const Slice& slice : run) {
    REQUIRE(slice.range.offset == at);
    for (; at < slice.range.end(); ++at) REQUIRE(model.bytes[at].unsent);
  }
  REQUIRE((unsent == 0) == run.empty());
  REQUIRE((run.empty() || at == bytes.size() || !model.bytes[at].unsent));
  REQUIRE(f.log.to_flush(up_to) == model.to_flush(up_to));
  REQUIRE(f.log.waits_for(Wait::kSending, up_to) == model.any(up_to, false, true));
  REQUIRE(f.log.waits_for(Wait::kRows, up_to) == model.any(up_to, true, false));
  REQUIRE(f.log.waits_for(Wait::kMemory, up_to) == model.any(up_to, false, false));
}

}  // namespace

TEST_CASE("after any history the log knows what a model knows byte by byte", "[log]") {
  constexpr uint64_t kSize = 48;
  for (unsigned seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    std::mt19937 random(seed);
    Fixture f(uint64_t{64} << 20);
    Model model(kSize);
    for (int step = 0; step < 300; ++step) {
      const ByteRange range{random() % (kSize - 8), random() % 8 + 1};
      const uint64_t connection = random() % 4 + 1;
      SpoolRow row;
      row.range = range;
      switch (random() % 16) {
        case 12:
        case 13:
        case 14:
          REQUIRE(f.memory->reserve(ReplayLog::cost(0)));
          f.log.add_unsent(ReplayLog::make_record(f.memory, range, ++f.change, nullptr));
          model.add(range, f.change, 0, false, true);
          break;
        case 15: f.log.sent(range, connection), model.sent(range, connection); break;
        case 0: f.log.flushed(connection), model.flushed(connection); break;
        case 1: (void)f.log.lost(connection), model.lost(connection); break;
        case 2:
          f.log.supersede(range);
          std::fill_n(model.bytes.begin() + range.offset, range.length, Model::Byte());
          break;
        case 3:
          row.id = row.sequence = ++f.change;
          f.log.move(ReplayLog::make_record(row));
          model.move(range, f.change);
          break;
        case 4:
        case 5:
          row.id = row.sequence = ++f.change;
          f.log.add(ReplayLog::make_record(row), upload::kNoConnection);
          model.add(range, f.change, 0, true);
          break;
        default:
          f.write(range.offset, std::string(range.length, 'a'), connection);
          model.add(range, f.change, connection, false);
      }
      check_same(f, model, random() % (f.log.acknowledged() + 1));
    }
  }
}

TEST_CASE("what a change or a question costs does not grow with the log", "[log]") {
  for (const bool spooled : {false, true}) {
    INFO("spooled " << spooled);
    uint64_t last = 0;
    Fixture f(uint64_t{1} << 30);
    for (const uint64_t changes : {1000, 100000}) {
      for (uint64_t i = f.log.acknowledged(); i < changes; ++i) {
        SpoolRow row;
        row.id = row.sequence = i + 1;
        row.range = {i * 7919 % 200000 * 16, 8};
        row.zero = true;
        if (spooled)
          f.log.add(ReplayLog::make_record(row), upload::kNoConnection);
        else
          f.zero(row.range.offset, 8, i % 4 + 1);
      }
      const uint64_t before = f.log.looked_at();
      f.zero(16 * 4711, 8, 1);
      f.log.supersede({16 * 4711, 8});
      (void)f.log.first_orphans(1);
      (void)f.log.first_in_memory(1);
      (void)f.log.has_orphans_or_rows();
      (void)f.log.bytes_to_send();
      (void)f.log.slices({0, 16});
      for (const Wait what : {Wait::kSending, Wait::kRows, Wait::kMemory})
        (void)f.log.waits_for(what, 1);
      const uint64_t cost = f.log.looked_at() - before;
      CHECK(cost <= 24);
      CHECK((last == 0 || cost <= last + 4));
      last = cost;
    }
    const uint64_t before = f.log.looked_at();
    f.log.flushed(1);  // costs what it makes stable
    CHECK(f.log.looked_at() - before <= (spooled ? 1 : 100000 / 4 + 1));
  }
}
