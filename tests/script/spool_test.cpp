// SPDX-License-Identifier: BSD-3-Clause
//
// A volume with a spool and a real store: what goes where in each state, in which
// order it gets to the server, and what is left for the next run.

#include <filesystem>
#include <set>

#include "script/setup.h"

using namespace std::chrono_literals;
using namespace upload::script;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::target::Durability;
using upload::testing::FaultyVfs;
namespace fs = std::filesystem;
namespace http = upload::http;

namespace {

// Of a volume with a spool in that directory.
Settings spooling_in(const std::string& directory) {
  Settings settings;
  settings.replay = 128 * kBlock;
  settings.spool = directory;
  return settings;
}

struct Fixture : Setup {
  explicit Fixture(const std::string& directory) : Setup(spooling_in(directory)) {}
  explicit Fixture(const Settings& settings) : Setup(settings) {}
  [[nodiscard]] uint64_t file_size() const { return fs::file_size(path); }
  // The server has been started again: connections are lost, and until it is told of
  // its ticket it denies everything.
  void forget_ticket() {
    for (upload::ConnectionId id = 1; id <= server.connections_made(); ++id)
      server.close_idle(id);
    server.on_request([](const Asked&, const http::Request&) -> Result<http::Reply> {
      return Server::ok(403);
    });
  }
  void add_ticket() { server.on_request(nullptr); }
};

const Status kReset(Kind::kLost, "reset");
const Status kRefused(Kind::kConnect, "refused");
// So many blocks are drained together, in four requests.
constexpr uint64_t kGroup = 64;

}  // namespace

SCRIPT("while the server answers nothing touches the disk", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  const uint64_t before = f.file_size();
  const auto time = fs::last_write_time(f.path);
  for (uint64_t block = 0; block < 100; ++block) REQUIRE(f.write(block).ok());
  CHECK(f.flush().ok());
  CHECK(f.file_size() == before);
  CHECK(fs::last_write_time(f.path) == time);
}

SCRIPT("one lost connection does not begin spooling", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  CHECK(f.write(1).ok());
  const uint64_t before = f.file_size();
  CHECK(f.flush().ok());
  CHECK(f.file_size() == before);
  CHECK(f.server.content(0, 2) == "aa");
}

// Rows wait until a late copy of older content can't come any more, and only an answer tells
// how long that is: any answer.
SCRIPT("a server that knows no OPTIONS is drained to", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  CHECK(f.write(9).ok());
  f.server.away({Kind::kLost, "reset"});
  CHECK(f.write(0).ok());
  CHECK(f.write(0, 'b').ok());
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (asked.verb == Verb::kOptions) return Result<http::Reply>(Server::ok(400));
    return f.server.answer(asked, request);
  });
  f.server.back();
  f.settle();
  CHECK(f.server.content(0) == "b");
  CHECK(f.server.count(Verb::kOptions) < 100);
}

SCRIPT("while the server is away writes succeed, and reads see them", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  CHECK(f.write(0, 'a', 4).ok());
  CHECK(f.flush().ok());
  f.server.away();
  CHECK(f.write(1, 'b', 2).ok());
  CHECK(f.write(2, 'c').ok());
  CHECK(f.zero(3).ok());
  CHECK(f.read(1, 3) == std::string("bc") + '\0');
  CHECK(f.server.content(0, 4) == "aaaa");
  f.server.back();
  f.settle();
  CHECK(f.server.content(0, 4) == "abc0");
  CHECK(f.read(0, 4) == "abc0");
  CHECK(f.flush().ok());
}

SCRIPT("the log in memory moves to the spool", "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.spool_local = true;
  {
    Fixture f(settings);
    CHECK(f.write(0, 'a', 3).ok());  // acknowledged, not flushed
    f.server.away();
    CHECK(f.write(1, 'b').ok());
    CHECK(f.flush().ok());  // on the disk
  }
  Fixture f(settings);
  CHECK(f.volume->wait_for_leftovers().ok());
  CHECK(f.server.content(0, 3) == "aba");
}

SCRIPT("a flush waits for the server, unless the spool's disk will do", "[spool]") {
  const std::string d = new_directory();
  {
    Fixture f(d);
    f.server.away();
    CHECK(f.write(0).ok());
    auto flush = f.start_flush();
    pass(100s);
    CHECK_FALSE(flush.done());
    CHECK(f.server.content(0) == ".");
    f.server.back();
    const auto before = f.now();
    CHECK(flush.get().ok());
    CHECK(f.now() - before < 6s);
    CHECK(f.server.content(0) == "a");
  }
  Settings settings = spooling_in(new_directory());
  settings.spool_local = true;
  Fixture f(settings);
  f.server.away();
  CHECK(f.write(0).ok());
  CHECK(f.flush().ok());
  CHECK(f.write(1, 'b', 1, true).ok());
  CHECK(f.server.content(0, 2) == "..");
}

SCRIPT("where replies mean stable a write into the spool does not wait, a flush does",
       "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.durability = Durability::kOnReply;
  Fixture f(settings);
  f.server.away();
  CHECK(f.write(0).ok());
  auto flush = f.start_flush();
  pass(100s);
  CHECK_FALSE(flush.done());
  f.server.back();
  CHECK(flush.get().ok());
  CHECK(f.server.content(0) == "a");
  CHECK(f.server.count(Verb::kFlush) == 0);
}

SCRIPT("a write with FUA waits for the server", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  f.server.away();
  auto write = f.start_write(0, 'a', 1, true);
  pass(100s);
  CHECK_FALSE(write.done());
  f.server.back();
  CHECK(write.get().ok());
  CHECK(f.server.content(0) == "a");
}

SCRIPT("a flush gives up when the server takes nothing, and nothing is lost", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  f.server.away();
  CHECK(f.write(0).ok());
  const auto before = f.now();
  const Status status = f.flush();
  // With a last look.
  CHECK(f.now() - before >= 300s);
  CHECK(f.now() - before < 302s);
  CHECK(status.text() ==
        "disk: could not flush: 1 changes of together 4608 bytes are in the "
        "spool " +
            f.path +
            " and not on the server yet, which has taken "
            "nothing for 300 seconds (retry-time=)");
  CHECK(f.write(1).ok());
  f.server.back();
  f.settle();
  CHECK(f.flush().ok());
  CHECK(f.server.content(0, 2) == "aa");
}

SCRIPT("only the newest content is sent", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  f.server.away();
  CHECK(f.write(0, 'a', 8).ok());
  CHECK(f.write(0, 'b', 4).ok());
  CHECK(f.write(2, 'c', 1).ok());
  const size_t before = f.server.sent().size();
  f.server.back();
  f.settle();
  CHECK(f.server.content(0, 8) == "bbcbaaaa");
  uint64_t bytes = 0;
  const auto& sent = f.server.sent();
  for (size_t i = before; i < sent.size(); ++i) bytes += sent[i].bytes;
  CHECK(bytes == 8 * kBlock);
}

SCRIPT("while it drains, writes elsewhere go to the server, those that overlap don't",
       "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  f.server.away();
  for (uint64_t i = 0; i < 40; ++i) REQUIRE(f.write(i * 4, 'a', 2).ok());
  f.server.hold();
  const size_t before = f.server.sent().size();
  f.server.back();
  // The question whether it answers, all rows that go together, and their flush:
  // draining now.
  f.server.release(1 + 8 + 1);
  f.server.await_sent(before + 1 + 8 + 1 + 1);
  CHECK(f.server.sent().back().asked.verb == Verb::kWrite);
  const size_t sent = f.server.sent().size();
  CHECK(f.write(39 * 4, 'b').ok());  // into the spool, at once
  CHECK(f.read(39 * 4, 2) == "ba");
  auto elsewhere = f.start_write(1000, 'x');
  pass();
  CHECK(f.server.sent().size() == sent);  // no connection is free
  f.server.release_all();
  CHECK(elsewhere.get().ok());
  f.settle();
  CHECK(f.server.sent().size() > sent);
  CHECK(f.server.count(wrote(1000)) == 1);
  CHECK(f.server.content(39 * 4, 2) == "ba");
  CHECK(f.server.content(1000) == "x");
}

SCRIPT("late copies of what failed hold newer content back, not the same again", "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.late = 150s;
  Fixture f(settings);
  f.server.away(kReset);
  CHECK(f.write(0, 'a').ok());  // its two copies may come late
  CHECK(f.write(8, 'x').ok());
  CHECK(f.write(0, 'b').ok());
  f.server.back();
  const auto before = f.now();
  auto flush = f.start_flush();
  wait_until([&] { return f.server.content(8) == "x"; });
  CHECK(f.server.content(0) == ".");
  CHECK(f.now() - before < 10s);
  pass(before + 150s - f.now());
  CHECK_FALSE(flush.done());
  CHECK(f.server.content(0) == ".");
  CHECK(flush.get().ok());
  CHECK(f.now() - before < 160s);
  CHECK(f.server.content(0) == "b");
}

SCRIPT("when the spool is full writers wait, and give up after the retry time", "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.spool_size = 128 * kBlock;
  Fixture f(settings);
  f.server.away();
  uint64_t block = 0;
  Status status;
  for (; status.ok(); ++block) status = f.write(block * 2);
  CHECK(status.text().find("disk: could not write: ") == 0);
  CHECK(status.text().find(" are in the spool " + f.path) != std::string::npos);
  CHECK(block > 90);
  CHECK(block < 129);
  // The same blocks again: what they replace makes room.
  Status again;
  for (int i = 0; i < 300 && again.ok(); ++i) again = f.write(0, 'b');
  f.server.back();
  f.settle();
  CHECK(f.flush().ok());
  CHECK(f.server.content(2) == "a");
}

SCRIPT("content that newer content hides gives its room back", "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.spool_size = 256 * kBlock;
  Fixture f(settings);
  f.server.away();
  for (int i = 0; i < 5000; ++i)
    REQUIRE(f.write(static_cast<uint64_t>(i) % 3, 'a' + i % 26).ok());
  CHECK(f.file_size() < 2 * settings.spool_size);
  f.server.back();
  f.settle();
  CHECK(f.server.content(0, 3) == "ghf");  // 4998, 4999, 4997
}

SCRIPT("a ticket that is denied ends it at once, and keeps the spool", "[spool]") {
  const std::string d = new_directory();
  {
    Fixture f(d);
    f.server.away();
    CHECK(f.write(0).ok());
    f.server.on_request([](const Asked&, const http::Request&) -> Result<http::Reply> {
      return Server::ok(403);
    });
    f.server.back();
    CHECK(f.flush().kind() == Kind::kDenied);
    CHECK(f.write(1).kind() == Kind::kDenied);
  }
  Fixture f(d);
  CHECK(f.volume->wait_for_leftovers().ok());
  CHECK(f.server.content(0, 2) == "a.");
}

SCRIPT("while a ticket that may be forgotten is waited for changes go to the spool", "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.denied_wait = 20s;
  Fixture f(settings);
  CHECK(f.write(0).ok());
  f.forget_ticket();
  CHECK(f.write(1, 'b').ok());
  CHECK(f.server.content(0, 2) == "a.");
  // Nobody but the thread that drains asks the server now.
  f.server.await_sent(f.server.sent().size() + 3);
  CHECK(f.write(2, 'c').ok());
  CHECK(f.server.content(0, 3) == "a..");
  f.add_ticket();
  f.settle();
  CHECK(f.flush().ok());
  CHECK(f.server.content(0, 3) == "abc");
}

SCRIPT(
    "a ticket that is denied for longer than denied-wait ends draining, and keeps the "
    "spool",
    "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.denied_wait = 20s;
  {
    Fixture f(settings);
    CHECK(f.write(0).ok());
    f.forget_ticket();
    CHECK(f.write(1, 'b').ok());
    const Status status = f.flush();
    CHECK(status.kind() == Kind::kDenied);
    CHECK(status.text().find("HTTP status 403") != std::string::npos);
    CHECK(status.text().find("denied-wait=") != std::string::npos);
    CHECK(f.write(2).kind() == Kind::kDenied);
    f.add_ticket();
  }
  Fixture f(settings);
  CHECK(f.volume->wait_for_leftovers().ok());
  CHECK(f.server.content(0, 2) == "ab");
}

SCRIPT("leftovers go first, in their order, and then nothing is left", "[spool]") {
  const std::string d = new_directory();
  {
    Fixture f(d);
    f.server.away();
    CHECK(f.write(0, 'a', 8).ok());
    CHECK(f.write(4, 'b', 8).ok());
    CHECK(f.zero(6).ok());
  }
  CHECK(fs::exists(d));
  {
    Fixture f(d);
    CHECK(f.volume->wait_for_leftovers().ok());
    CHECK(f.server.content(0, 12) == "aaaabb0bbbbb");
    // Copies that the earlier run had under way may be late.
    CHECK(f.write(0, 'c').ok());
    CHECK(f.flush().ok());
    CHECK(f.server.content(0) == "c");
  }
  CHECK(fs::is_empty(d));
}

SCRIPT("with leftovers and no server the disk is not opened, and they are kept", "[spool]") {
  const std::string d = new_directory();
  {
    Fixture f(d);
    f.server.away();
    CHECK(f.write(0).ok());
  }
  {
    // It drains from its construction on.
    Settings settings = spooling_in(d);
    settings.away = true;
    Fixture f(settings);
    const Status status = f.volume->wait_for_leftovers();
    CHECK(status.text().find("disk: could not open the disk: 1 changes") == 0);
  }
  CHECK(!fs::is_empty(d));
}

SCRIPT("a full disk fails the write alone, and what is in memory is kept", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  CHECK(f.write(0).ok());  // in memory
  f.server.away();
  file_system().set(FaultyVfs::Fault::kNoSpace);
  const Status status = f.write(1, 'b');
  CHECK(status.kind() == Kind::kNoSpace);
  CHECK(status.text().find("disk: the spool " + f.path + " could not be written: ") == 0);
  f.server.back();
  f.settle();
  // What is in memory may have been sent a moment before the volume drains.
  wait_until([&] { return f.write(2, 'c').ok(); });
  CHECK(f.flush().ok());
  CHECK(f.server.content(0) == "a");
  CHECK(f.server.content(2) == "c");
}

SCRIPT("a spool that fails latches the error", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  f.server.away();
  CHECK(f.write(0).ok());
  file_system().set(FaultyVfs::Fault::kSyncError);
  const Status status = f.write(1);
  CHECK(status.kind() == Kind::kSpool);
  CHECK(f.flush().kind() == Kind::kSpool);
  file_system().set(FaultyVfs::Fault::kNone);
  CHECK(f.write(2).kind() == Kind::kSpool);
}

SCRIPT("a disk that is too full to drop from is waited for", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  f.server.away();
  for (uint64_t block = 0; block < 40; ++block) REQUIRE(f.write(block * 2).ok());
  file_system().set(FaultyVfs::Fault::kNoSpace);
  f.server.back();
  auto settled = start([&] {
    f.settle();
    return true;
  });
  pass(100s);
  CHECK_FALSE(settled.done());
  file_system().set(FaultyVfs::Fault::kNone);
  const auto before = f.now();
  CHECK(settled.get());
  CHECK(f.now() - before < 10s);
  CHECK(f.write(1).ok());
  CHECK(f.server.content(78) == "a");
}

SCRIPT("with nothing in the spool, too, it is noticed that the server is back", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  f.server.away();
  file_system().set(FaultyVfs::Fault::kNoSpace);
  CHECK(f.write(0).kind() == Kind::kNoSpace);
  f.server.back();
  const auto before = f.now();
  wait_until([&] { return f.write(0, 'b').ok(); });
  CHECK(f.now() - before < 6s);
  CHECK(f.server.content(0) == "b");
}

SCRIPT("requests that fail slowly begin spooling, however short the retry time is", "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.retry_time = 30s;
  Fixture f(settings);
  bool hangs = true;
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (!hangs) return f.server.answer(asked, request);
    pass(60s);
    return Result<http::Reply>(Status(Kind::kLost, "timed out"));
  });
  CHECK(f.write(0).ok());
  CHECK(f.server.content(0) == ".");
  hangs = false;
  wait_until([&] { return f.server.content(0) == "a"; });
}

SCRIPT("a flush that was under way while the log moved leaves no row behind", "[spool]") {
  const std::string d = new_directory();
  {
    Settings settings = spooling_in(d);
    settings.connections = 2;
    settings.spool_local = true;
    Fixture f(settings);
    f.server.hold(kFlushed);
    CHECK(f.write(0, 'a').ok());
    auto first = f.start_flush();
    f.server.await(kFlushed);
    f.server.away();
    CHECK(f.write(8, 'b').ok());  // spooling
    CHECK(f.flush().ok());        // what is at 0 has moved
    CHECK(f.server.count(kFlushed) == 1);
    f.server.let_go(kFlushed);  // and is stable too
    CHECK(first.get().ok());
    f.server.back();
    const auto before = f.now();
    f.settle();
    CHECK(f.now() - before < 100s);
    CHECK(f.server.content(8) == "b");
  }
  CHECK(fs::is_empty(d));
}

SCRIPT("zeroes are drained in pieces that a server can write out", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  f.server.away();
  for (uint64_t i = 0; i < 16; ++i) REQUIRE(f.zero(i * 64, 64).ok());
  f.server.back();
  f.settle();
  size_t whole = 0;
  for (const auto& sent : f.server.sent()) {
    if (sent.asked.verb != Verb::kZero) continue;
    CHECK(sent.asked.range.length <= 64 * kBlock);
    whole += sent.asked.range.length == 64 * kBlock ? 1 : 0;
  }
  CHECK(whole >= 16);
  CHECK(f.server.content(0, 1025) == std::string(1024, '0') + ".");
}

SCRIPT("a flush is patient while the server takes what is in memory", "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.retry_time = 30s;
  Fixture f(settings);
  for (uint64_t i = 0; i < 50; ++i) REQUIRE(f.write(i * 2).ok());
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    pass(1s);
    return f.server.answer(asked, request);
  });
  f.server.close_idle(1);
  const auto before = f.now();
  CHECK(f.flush().ok());
  CHECK(f.now() - before >= 50s);  // 50 requests
}

SCRIPT("a large write makes room for itself where less would not", "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.replay = (1 << 20) + (64 << 10);
  settings.spool_size = 8 << 20;
  Fixture f(settings);
  for (uint64_t i = 0; i < 115; ++i) REQUIRE(f.write(1000 + i).ok());
  CHECK(f.write(0, 'b', settings.replay / 2 / kBlock).ok());
  CHECK(f.server.count(Verb::kFlush) > 0);
}

SCRIPT("the spool drains although every tenth request fails", "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.late = 1ms;
  Fixture f(settings);
  f.server.away();
  for (uint64_t i = 0; i < 200; ++i) REQUIRE(f.write(i * 2).ok());
  int requests = 0;
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (++requests % 10 == 0) return Result<http::Reply>(kReset);
    return f.server.answer(asked, request);
  });
  f.server.back();
  f.settle();
  std::string every_second;
  for (int i = 0; i < 200; ++i) every_second += "a.";
  CHECK(f.server.content(0, 400) == every_second);
}

SCRIPT("Retry-After is honoured while spooling", "[spool]") {
  const std::string d = new_directory();
  Fixture f(d);
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (f.server.sent().size() > 1) return f.server.answer(asked, request);
    http::Reply reply = Server::ok(503);
    reply.headers.set("Retry-After", "120");
    return Result<http::Reply>(reply);
  });
  CHECK(f.write(0).ok());
  pass(60s - 10ms);
  CHECK(f.server.sent().size() == 1);
  pass(20ms);
  CHECK(f.server.sent().size() > 1);
  f.settle();
  CHECK(f.server.content(0) == "a");
}

SCRIPT("time in which rows are held back is not the server's, however short the retry time is",
       "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.late = 150s;
  settings.retry_time = 5s;
  Fixture f(settings);
  f.server.away(kReset);
  CHECK(f.write(0, 'a').ok());
  CHECK(f.write(0, 'b').ok());
  pass(60s);  // every attempt fails
  f.server.back();
  wait_until([&] { return f.server.count(Verb::kOptions) > 10; });
  const auto before = f.now();
  CHECK(f.flush().ok());
  CHECK(f.now() - before > 100s);
  CHECK(f.server.content(0) == "b");
}

SCRIPT("what was drained is kept though connections die every few requests", "[spool]") {
  const std::string d = new_directory();
  Fixture f(spooling_in(d));
  f.server.away();
  CHECK(f.write(0, 'a', 16).ok());
  for (uint64_t block = 1; block < 16; block += 2) CHECK(f.write(block, 'b').ok());
  uint64_t requests = 0;
  f.server.on_request(
      [&](const Asked& asked, const http::Request& request) -> Result<http::Reply> {
        if (++requests % 5 == 0) return kReset;
        return f.server.answer(asked, request);
      });
  f.server.back();
  const auto before = f.now();
  CHECK(f.flush().ok());
  CHECK(f.now() - before < 120s);
  CHECK(f.server.content(0, 16) == "abababababababab");
  // Nine rows in sixteen pieces, each of which a loss may cost a second time.
  CHECK(requests < 100);
}

SCRIPT("a disk that hangs fails what needs it, after a time, and nothing else", "[spool]") {
  const std::string d = new_directory();
  bool hangs = false;
  file_system().skip_syncs([&] {
    while (hangs) pass(1s);
  });
  {
    Fixture f(spooling_in(d));
    CHECK(f.write(100, 'r').ok());
    CHECK(f.flush().ok());
    f.server.away();
    CHECK(f.write(0, 'a').ok());
    hangs = true;
    f.server.back();
    const auto before = f.now();
    auto write = f.start_write(1, 'b');
    pass(250s);
    CHECK_FALSE(write.done());
    CHECK(f.read(100) == "r");
    CHECK(f.now() - before < 252s);
    const Status status = write.get();
    CHECK(f.now() - before < 310s);
    CHECK(status.text() ==
          "disk: the disk of the spool " + f.path + " has not answered for 300 seconds");
    const auto after = f.now();
    for (const std::string& text : {f.write(2).text(), f.flush().text(), f.read(0)})
      CHECK(text.ends_with(" has not answered for 300 seconds"));
    CHECK(f.now() - after < 1s);
    hangs = false;
  }
  // What had been acknowledged is there.
  Fixture f(spooling_in(d));
  CHECK(f.flush().ok());
  CHECK(f.server.content(0) == "a");
}

SCRIPT("while a disk hangs what goes to the server goes on", "[spool]") {
  const std::string d = new_directory();
  bool hangs = false;
  file_system().skip_syncs([&] {
    while (hangs) pass(1s);
  });
  Fixture f(spooling_in(d));
  f.server.away();
  CHECK(f.write(0, 'a', kGroup).ok());
  CHECK(f.write(kGroup, 'b', 16).ok());
  f.server.hold(wrote_stable(kGroup, 16));
  f.server.back();
  f.server.await(wrote_stable(kGroup, 16));
  hangs = true;
  f.server.let_go(wrote_stable(kGroup, 16));
  const auto before = f.now();
  // Three times the log.
  for (uint64_t block = 1000; block < 1384; ++block) REQUIRE(f.write(block, 'd').ok());
  CHECK(f.now() - before < 30s);
  CHECK(f.server.content(1383) == "d");
  hangs = false;
  CHECK(f.flush().ok());
}

SCRIPT("spooling does not end when the server has gone again meanwhile", "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.connections = 2;
  Fixture f(settings);
  bool dropped = false;
  bool gone = false;
  f.server.away();
  CHECK(f.write(0, 'a', kGroup).ok());
  CHECK(f.write(kGroup, 'b', 16).ok());
  f.server.hold(wrote_stable(kGroup, 16));
  f.server.back();
  f.server.await(wrote_stable(kGroup, 16));
  CHECK(f.write(100, 'x').ok());  // directly, and not flushed
  // The row is dropped, and then the file is made small, which takes its time.
  std::optional<Task<Status>> flush;
  file_system().skip_syncs([&] {
    // The transaction that drops ends with an empty journal; the next one makes it small.
    if (!dropped) {
      dropped = fs::file_size(f.path + "-journal") == 0;
      return;
    }
    if (std::exchange(gone, true)) return;
    f.server.away(kReset);
    for (upload::ConnectionId id = 1; id <= f.server.connections_made(); ++id)
      f.server.close_idle(id);
    flush.emplace(f.start_flush());
    pass(60s);
  });
  f.server.let_go(wrote_stable(kGroup, 16));
  wait_until([&] { return gone; });
  pass(100s);
  f.server.back();
  const auto before = f.now();
  CHECK(flush->get().ok());
  CHECK(f.now() - before < 60s);
  CHECK(f.server.content(100) == "x");
}

SCRIPT("spooling does not end when a change has come into the spool meanwhile", "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.connections = 2;
  Fixture f(settings);
  f.server.open_first();
  f.server.hold(wrote(50));
  auto first = f.start_write(50, 'x');
  f.server.await(wrote(50));
  f.server.away(kReset);
  CHECK(f.write(0, 'a').ok());
  auto second = f.start_write(50, 'y');  // into the spool, after the first
  pass();
  bool dropped = false;
  bool ending = false;
  file_system().skip_syncs([&] {
    // The transaction that drops ends with an empty journal; the next one makes it small.
    if (!dropped) {
      dropped = fs::file_size(f.path + "-journal") == 0;
      return;
    }
    if (std::exchange(ending, true)) return;
    f.server.let_go(wrote(50));
    pass(5s);
    // Whoever is to end it may not get the processor before the change is appended.
    upload::sim::scheduler().stalls = 2000;
  });
  f.server.back();
  CHECK(first.get().ok());
  CHECK(second.get().ok());
  CHECK(ending);
  CHECK(f.flush().ok());
  CHECK(f.server.content(50) == "y");
}

SCRIPT("a flush that waits costs what is acknowledged meanwhile nothing", "[spool]") {
  const std::string d = new_directory();
  Settings settings = spooling_in(d);
  settings.spool_size = 1 << 24;
  Fixture f(settings);
  f.server.away();
  CHECK(f.write(0).ok());
  uint64_t next = 1;
  // Steps that all fibers take for fifty writes, with hundreds of rows more each time.
  const auto measure = [&] {
    for (unsigned i = 0; i < 300; ++i) CHECK(f.write(next++).ok());
    const uint64_t before = upload::sim::scheduler().steps();
    for (unsigned i = 0; i < 50; ++i) CHECK(f.write(next++).ok());
    return upload::sim::scheduler().steps() - before;
  };
  const uint64_t none = measure();
  std::vector<Task<Status>> flushes;
  for (unsigned i = 0; i < 4; ++i) flushes.push_back(f.start_flush());
  pass();
  const uint64_t four = measure();
  const uint64_t later = measure();
  CHECK(four <= none + none / 4);
  CHECK(later <= none + none / 4);
  f.server.back();
  for (auto& flush : flushes) CHECK(flush.get().ok());
}

// --- Several senders ---

namespace {

Settings with_connections(const std::string& directory, unsigned connections) {
  Settings settings = spooling_in(directory);
  settings.connections = connections;
  settings.spool_size = 8 << 20;
  return settings;
}

// So many groups have gone into the spool, at blocks 0, 100 and so on. The first is on the server
// again; of the others so many are held there, and three are under way, over three connections.
void drain_groups(Fixture& f, uint64_t count, uint64_t held) {
  f.server.open_first();
  f.server.away();
  for (uint64_t i = 0; i < count; ++i) REQUIRE(f.write(i * 100, 'a', kGroup).ok());
  for (uint64_t i = 1; i <= held; ++i) f.server.hold(wrote_stable(i * 100, kGroup));
  f.server.back();
  for (uint64_t i = 1; i <= 3; ++i) f.server.await(wrote_stable(i * 100, kGroup));
}

}  // namespace

SCRIPT("groups of rows go over all connections side by side", "[spool]") {
  const std::string d = new_directory();
  Fixture f(with_connections(d, 3));
  drain_groups(f, 6, 5);
  pass(1s);
  CHECK(f.server.count(wrote_stable(400, kGroup)) == 0);
  // The second is done before the first.
  f.server.let_go(wrote_stable(200, kGroup));
  f.server.await(wrote_stable(400, kGroup));
  CHECK(f.server.content(263) == "a");
  CHECK(f.server.content(100) == ".");
  f.server.release_all();
  for (uint64_t i : {1, 3, 4, 5}) f.server.let_go(wrote_stable(i * 100, kGroup));
  f.settle();
  for (uint64_t i = 0; i < 6; ++i)
    CHECK(f.server.content(i * 100, 65) == std::string(64, 'a') + ".");
  CHECK(f.flush().ok());
}

SCRIPT("a row waits for an older one that it hides a part of, others do not", "[spool]") {
  const std::string d = new_directory();
  {
    Fixture f(with_connections(d, 3));
    f.server.open_first();
    f.server.away();
    CHECK(f.write(500, 'x').ok());
    CHECK(f.write(600, 'x', kGroup).ok());
    CHECK(f.write(0, 'a', kGroup).ok());
    CHECK(f.write(2, 'b').ok());
    CHECK(f.write(300, 'c').ok());
    f.server.hold(wrote(3, 61));
    f.server.back();
    f.server.await(wrote(3, 61));
    wait_until([&] { return f.server.content(300) == "c"; });
    pass(10s);
    CHECK(f.server.content(2) == ".");
    // The older one stays in the spool, and so has the newer one to.
    f.server.away();
    f.server.let_go(wrote(3, 61));
    pass(10s);
  }
  Fixture f(with_connections(d, 3));
  CHECK(f.volume->wait_for_leftovers().ok());
  CHECK(f.server.content(0, 4) == "aaba");
}

SCRIPT("a server that closes all connections at once is not away", "[spool]") {
  const std::string d = new_directory();
  Fixture f(with_connections(d, 3));
  drain_groups(f, 7, 3);
  // One request of each.
  std::set<uint64_t> failed;
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (asked.verb == Verb::kWrite && failed.size() < 3 &&
        failed.insert(asked.range.offset).second)
      return Result<http::Reply>(kReset);
    return f.server.answer(asked, request);
  });
  const uint64_t rows = f.file_size();
  for (uint64_t i = 1; i < 4; ++i) f.server.let_go(wrote_stable(i * 100, kGroup));
  wait_until([&] { return f.server.content(100) == "a"; });
  CHECK(f.write(2000, 'b').ok());
  CHECK(f.server.content(2000) == "b");
  CHECK(f.file_size() <= rows);
  f.settle();
  CHECK(f.server.content(663) == "a");
}

SCRIPT("what has failed in an earlier outage does not count in the next one", "[spool]") {
  const std::string d = new_directory();
  Fixture f(with_connections(d, 2));
  f.server.open_first();
  std::set<uint64_t> fails;
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (asked.verb == Verb::kWrite && fails.erase(asked.range.offset / kBlock) > 0)
      return Result<http::Reply>(kRefused);
    return f.server.answer(asked, request);
  });
  // Two groups fail, and then go as one, by one of the two senders: two rows make a group, but not
  // after one that has taken long.
  f.server.away();
  REQUIRE(f.write(0, 'a', kGroup).ok());
  for (uint64_t i = 1; i < 3; ++i) REQUIRE(f.write(i * 100, 'a', kGroup / 2).ok());
  f.server.hold(wrote_stable(0, kGroup));
  for (uint64_t i = 1; i < 3; ++i) f.server.hold(wrote_stable(i * 100, kGroup / 2));
  f.server.back();
  f.server.await(wrote_stable(0, kGroup));
  pass(2s);
  f.server.let_go(wrote_stable(0, kGroup));
  for (uint64_t i = 1; i < 3; ++i) f.server.await(wrote_stable(i * 100, kGroup / 2));
  fails = {100, 200};
  f.server.away();
  for (uint64_t i = 1; i < 3; ++i) f.server.let_go(wrote_stable(i * 100, kGroup / 2));
  pass(10s);
  f.server.back();
  f.settle();
  // In the next outage each sender fails once.
  f.server.away();
  for (uint64_t i = 10; i < 15; ++i) REQUIRE(f.write(i * 100, 'b', kGroup).ok());
  for (uint64_t i = 11; i < 13; ++i) f.server.hold(wrote_stable(i * 100, kGroup));
  f.server.back();
  for (uint64_t i = 11; i < 13; ++i) f.server.await(wrote_stable(i * 100, kGroup));
  const size_t asked = f.server.count(Verb::kOptions);
  fails = {1100, 1200};
  for (uint64_t i = 11; i < 13; ++i) f.server.let_go(wrote_stable(i * 100, kGroup));
  f.settle();
  CHECK(f.server.count(Verb::kOptions) == asked);  // as while spooling
  CHECK(f.server.content(1463) == "b");
}

SCRIPT("a write to what is being drained waits for its own group alone", "[spool]") {
  const std::string d = new_directory();
  Fixture f(with_connections(d, 3));
  f.server.open_first();
  f.server.away();
  for (uint64_t i = 0; i < 4; ++i) REQUIRE(f.write(i * 100, 'a', kGroup).ok());
  for (uint64_t i = 1; i < 4; ++i) f.server.hold(wrote_stable(i * 100, kGroup));
  f.server.back();
  for (uint64_t i = 1; i < 4; ++i) f.server.await(wrote_stable(i * 100, kGroup));
  auto first = f.start_write(110, 'b');
  auto second = f.start_write(210, 'b');
  pass(1s);
  CHECK_FALSE(first.done());
  f.server.let_go(wrote_stable(200, kGroup));
  CHECK(second.get().ok());
  CHECK_FALSE(first.done());
  f.server.let_go(wrote_stable(100, kGroup));
  CHECK(first.get().ok());
  f.server.let_go(wrote_stable(300, kGroup));
  f.settle();
  CHECK(f.flush().ok());
  CHECK(f.server.content(110) == "b");
  CHECK(f.server.content(210) == "b");
}

SCRIPT("groups that are stable while a transaction is under way are dropped in the next one",
       "[spool]") {
  const std::string d = new_directory();
  Fixture f(with_connections(d, 3));
  f.server.open_first();
  f.server.away();
  for (uint64_t i = 0; i < 4; ++i) REQUIRE(f.write(i * 100, 'a', kGroup).ok());
  for (uint64_t i = 1; i < 4; ++i) f.server.hold(wrote_stable(i * 100, kGroup));
  f.server.back();
  for (uint64_t i = 1; i < 4; ++i) f.server.await(wrote_stable(i * 100, kGroup));
  // A transaction empties the journal once.
  size_t transactions = 0;
  bool empty = true;
  bool hangs = true;
  file_system().skip_syncs([&] {
    const bool is_empty = fs::file_size(f.path + "-journal") == 0;
    transactions += is_empty && !empty ? 1 : 0;
    empty = is_empty;
    while (hangs) pass(1s);
  });
  f.server.let_go(wrote_stable(100, kGroup));
  wait_until([&] { return f.server.content(163) == "a"; });
  pass(1s);
  for (uint64_t i = 2; i < 4; ++i) f.server.let_go(wrote_stable(i * 100, kGroup));
  wait_until([&] { return f.server.content(263) == "a" && f.server.content(363) == "a"; });
  pass(1s);
  hangs = false;
  // Two, and the one that makes the file small.
  f.settle();
  CHECK(transactions <= 3);
}
