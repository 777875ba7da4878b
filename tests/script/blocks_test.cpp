// SPDX-License-Identifier: BSD-3-Clause
//
// A server that takes whole blocks only, of four of the clients', whose reply means stable, and that
// refuses requests when there are too many.

#include "script/setup.h"

using namespace std::chrono_literals;
using namespace upload::script;
using upload::ByteRange;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::target::Durability;
namespace http = upload::http;

namespace {

Settings in_fours() {
  return {
      .blocks = 1024, .connections = 2, .durability = Durability::kOnReply, .server_block = 4};
}

Asked asked_for(uint64_t block, uint64_t count) {
  return {Verb::kRead, {block * kBlock, count * kBlock}, false};
}

}  // namespace

SCRIPT("a part of a block is written with the rest of it", "[blocks]") {
  Setup f(in_fours());
  CHECK(f.write(4, 'a', 4).ok());
  CHECK(f.write(5, 'b', 2).ok());
  CHECK(f.server.requests() ==
        Requests{wrote_stable(4, 4), asked_for(4, 1), asked_for(7, 1), wrote_stable(4, 4)});
  CHECK(f.server.content(4, 4) == "abba");
  CHECK(f.read(4, 4) == "abba");
}

SCRIPT("two parts of a block that are written at once are both there", "[blocks]") {
  Setup f(in_fours());
  CHECK(f.write(0, 'o', 4).ok());
  std::vector<Task<Status>> writes;
  for (uint64_t block = 0; block < 4; ++block)
    writes.push_back(f.start_write(block, static_cast<char>('a' + block)));
  for (auto& write : writes) CHECK(write.get().ok());
  CHECK(f.server.content(0, 4) == "abcd");
}

SCRIPT("of a zero that ends within a block only that part is written", "[blocks]") {
  Setup f(in_fours());
  CHECK(f.write(0, 'a', 12).ok());
  CHECK(f.zero(1, 10).ok());
  CHECK(f.server.count(zeroed(4, 4, true)) == 1);
  CHECK(f.read(0, 1) == "a");
  CHECK(f.read(1, 1) == "0");
  CHECK(f.read(10, 1) == "0");
  CHECK(f.read(11, 1) == "a");
  CHECK(f.server.count(Verb::kWrite) == 3);
}

SCRIPT("adjacent writes go together, no more than a request holds with the rest of its blocks",
       "[blocks]") {
  Settings settings = in_fours();
  settings.connections = 1;
  Setup f(settings);
  f.server.hold();
  auto busy = f.start_write(500, 'x', 4);
  f.server.await_sent(1);
  std::vector<Task<Status>> writes;
  // The first and the last are parts of a block; sixteen blocks are the most of a request.
  writes.push_back(f.start_write(2, 'a', 2));
  writes.push_back(f.start_write(4, 'b', 12));
  writes.push_back(f.start_write(16, 'c', 2));
  pass();
  f.server.release_all();
  CHECK(busy.get().ok());
  for (auto& write : writes) CHECK(write.get().ok());
  for (const Server::Sent& sent : f.server.sent())
    if (sent.asked.verb == Verb::kWrite) CHECK(sent.bytes <= 16 * kBlock);
  CHECK(f.server.content(2, 16) == "aabbbbbbbbbbbbcc");
}

SCRIPT("while a write to a part of a block may come late no other goes to that block",
       "[blocks]") {
  Setup f(in_fours());
  CHECK(f.write(0, 'o', 4).ok());
  f.server.fail(Verb::kWrite, {Kind::kLost, "reset"}, 1);
  CHECK(f.write(0, 'a').kind() == Kind::kLost);
  const size_t sent = f.server.count(Verb::kWrite);
  CHECK(f.write(3, 'b').text().find("may still be applying it") != std::string::npos);
  CHECK(f.server.count(Verb::kWrite) == sent);
  CHECK(f.write(4, 'c').ok());
}

SCRIPT("parts of blocks come out of the spool with the rest of theirs", "[blocks]") {
  Settings settings = in_fours();
  const std::string directory = new_directory();
  settings.replay = 1 << 18;
  settings.spool = directory;
  Setup f(settings);
  CHECK(f.write(0, 'o', 8).ok());
  f.server.away();
  CHECK(f.write(1, 'a').ok());
  CHECK(f.write(2, 'b').ok());
  CHECK(f.write(6, 'c', 2).ok());
  CHECK(f.zero(3, 1).ok());
  CHECK(f.server.content(0, 8) == "oooooooo");
  f.server.back();
  f.settle();
  CHECK(f.flush().ok());
  CHECK(f.server.content(0, 3) == "oab");
  CHECK(f.server.content(4, 4) == "oocc");
  CHECK(f.read(3, 1) == "0");
}

SCRIPT("two parts of one block with a gap between them come out of the spool", "[blocks]") {
  Settings settings = in_fours();
  const std::string directory = new_directory();
  settings.replay = 1 << 18;
  settings.spool = directory;
  Setup f(settings);
  CHECK(f.write(0, 'o', 8).ok());
  f.server.away();
  CHECK(f.write(0, 'a').ok());
  CHECK(f.write(2, 'b').ok());
  CHECK(f.write(7, 'c').ok());
  f.server.back();
  f.settle();
  CHECK(f.flush().ok());
  CHECK(f.server.content(0, 8) ==
        "aoboooo"
        "c");
}

SCRIPT("a part of a zero that is written as data takes no other zeroes along", "[blocks]") {
  Settings settings = in_fours();
  settings.connections = 1;
  Setup f(settings);
  f.server.hold();
  auto busy = f.start_write(500, 'x', 4);
  f.server.await_sent(1);
  auto part = start([&f] { return f.zero(2, 2); });
  pass();
  auto rest = start([&f] { return f.zero(4, 40); });
  pass();
  f.server.release_all();
  CHECK(busy.get().ok());
  CHECK(part.get().ok());
  CHECK(rest.get().ok());
  CHECK(f.server.count(wrote_stable(0, 4)) == 1);
  CHECK(f.server.count(zeroed(4, 40, true)) == 1);
}

SCRIPT("a zero in the spool that is hidden in part comes out in whole blocks", "[blocks]") {
  Settings settings = in_fours();
  const std::string directory = new_directory();
  settings.replay = 1 << 18;
  settings.spool = directory;
  Setup f(settings);
  f.server.away();
  CHECK(f.zero(0, 60).ok());
  CHECK(f.write(1, 'a').ok());
  f.server.back();
  f.settle();
  CHECK(f.flush().ok());
  for (const Server::Sent& sent : f.server.sent())
    if (sent.asked.verb == Verb::kWrite) CHECK(sent.bytes <= 16 * kBlock);
  CHECK(f.server.count(zeroed(4, 56, true)) == 1);
  CHECK(f.read(0, 4) == "0a00");
  CHECK(f.read(59, 1) == "0");
}

SCRIPT("parts of one block that an earlier run has left wait for late copies of each other",
       "[blocks]") {
  Settings settings = in_fours();
  const std::string directory = new_directory();
  settings.replay = 1 << 18;
  settings.spool = directory;
  {
    Setup f(settings);
    f.server.away();
    CHECK(f.write(0, 'a').ok());
    CHECK(f.write(2, 'b').ok());
    CHECK(f.write(8, 'c', 4).ok());
  }
  Setup f(settings);
  const auto before = f.now();
  CHECK(f.volume->wait_for_leftovers().ok());
  CHECK(f.now() - before >= settings.late);
  CHECK(f.server.content(0) == "a");
  CHECK(f.server.content(2) == "b");
  CHECK(f.server.content(8, 4) == "cccc");
}

SCRIPT("whole blocks that an earlier run has left go at once", "[blocks]") {
  Settings settings = in_fours();
  const std::string directory = new_directory();
  settings.replay = 1 << 18;
  settings.spool = directory;
  {
    Setup f(settings);
    f.server.away();
    CHECK(f.write(0, 'a', 4).ok());
  }
  Setup f(settings);
  const auto before = f.now();
  CHECK(f.volume->wait_for_leftovers().ok());
  CHECK(f.now() - before < settings.late);
  CHECK(f.server.content(0, 4) == "aaaa");
}

SCRIPT("a write goes over another connection when the rest of its block came over the last reply",
       "[blocks]") {
  Setup f(in_fours());
  CHECK(f.write(0, 'o', 4).ok());
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    Result<http::Reply> reply = f.server.answer(asked, request);
    http::Reply last = reply.value();
    last.last = true;
    return Result<http::Reply>(last);
  });
  CHECK(f.write(1, 'a', 2).ok());
  CHECK(f.server.content(0, 4) == "oaao");
}

SCRIPT("another part of a change waits where a late copy would bring back what it replaces",
       "[blocks]") {
  Settings settings = in_fours();
  const std::string directory = new_directory();
  settings.replay = 1 << 18;
  settings.spool = directory;
  Setup f(settings);
  CHECK(f.write(0, 'o', 4).ok());
  f.server.away();
  CHECK(f.write(0, 'a', 4).ok());
  // As much as is drained together.
  for (uint64_t block : {8, 28, 48}) CHECK(f.write(block, 'b', 20).ok());
  // It hides the middle of the first, and is not drained together with it.
  CHECK(f.write(1, 'c', 2).ok());
  const size_t before = f.server.count(wrote_stable(0, 4));
  f.server.fail(Verb::kWrite, {Kind::kLost, "reset"}, 1);
  f.server.back();
  f.settle();
  CHECK(f.flush().ok());
  CHECK(f.server.content(0, 4) == "acca");
  std::vector<upload::TimePoint> times;
  for (const Server::Sent& sent : f.server.sent())
    if (sent.asked == wrote_stable(0, 4)) times.push_back(sent.when);
  REQUIRE(times.size() == before + 4);
  CHECK(times[before + 1] - times[before] >= settings.late);
}

SCRIPT("what is left of a row within a block goes again with what hides the rest", "[blocks]") {
  Settings settings = in_fours();
  const std::string directory = new_directory();
  settings.replay = 1 << 18;
  settings.spool = directory;
  Setup f(settings);
  f.server.away();
  CHECK(f.write(0, 'a', 3).ok());
  CHECK(f.zero(1).ok());

  f.server.fail(Verb::kWrite, {Kind::kLost, "reset"}, 1);
  const size_t before = f.server.sent().size();
  f.server.back();
  f.settle();
  // One request has all of it, so that a late copy of it changes nothing.
  std::vector<Asked> writes;
  for (size_t i = before; i < f.server.sent().size(); ++i)
    if (f.server.sent()[i].asked.verb == Verb::kWrite) writes.push_back(f.server.sent()[i].asked);
  CHECK(writes == Requests{wrote_stable(0, 4), wrote_stable(0, 4)});

  CHECK(f.read(0, 1) == "a");
  CHECK(f.read(1, 1) == "0");
  CHECK(f.read(2, 1) == "a");
}

SCRIPT("leftovers that are parts of blocks wait for what an earlier run may have under way",
       "[blocks]") {
  for (const uint64_t first : {0, 1}) {
    Settings settings = in_fours();
    const std::string directory = new_directory();
    settings.replay = 1 << 18;
    settings.spool = directory;
    {
      Setup f(settings);
      f.server.away();
      CHECK(f.write(first, 'a', 4 - first).ok());
      CHECK(f.write(4, 'b', 4).ok());
    }
    // A request of that run for one part has what stood in the place of another.
    Setup f(settings);
    const auto before = f.now();
    CHECK(f.volume->wait_for_leftovers().ok());
    CHECK((f.now() - before >= settings.late) == (first > 0));
    CHECK(f.server.content(first, 2) == "aa");
    CHECK(f.server.content(4, 4) == "bbbb");
  }
}

SCRIPT("a server that throttles is tried again, without a replay log, too", "[blocks]") {
  Settings settings = in_fours();
  settings.persists = true;
  Setup f(settings);
  int refusals = 3;
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (asked.verb != Verb::kWrite || refusals-- <= 0) return f.server.answer(asked, request);
    http::Reply reply = Server::ok(503);
    reply.headers.set("Retry-After", "20");
    return Result<http::Reply>(reply);
  });
  const auto before = f.now();
  CHECK(f.write(1, 'a').ok());
  CHECK(f.now() - before >= 60s);
  CHECK(f.server.content(1) == "a");
  // Also when the connection is lost under it: nothing of it is unflushed.
  f.server.on_request(nullptr);
  f.server.fail(Verb::kWrite, {Kind::kLost, "reset"}, 2);
  CHECK(f.write(2, 'b').ok());
  CHECK(f.flush().ok());
}

SCRIPT("a server that throttles for longer than the retry time ends the volume", "[blocks]") {
  Settings settings = in_fours();
  settings.persists = true;
  settings.retry_time = 100s;
  Setup f(settings);
  f.server.refuse(Verb::kWrite, 503);
  const auto before = f.now();
  const Status status = f.write(1, 'a');
  CHECK(status.kind() == Kind::kUnavailable);
  CHECK(f.now() - before >= 100s);
  f.server.on_request(nullptr);
  CHECK(f.flush().text() == status.text());
}
