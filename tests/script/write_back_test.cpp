// SPDX-License-Identifier: BSD-3-Clause
//
// A volume with write-back: what a client waits for, what goes together, and what becomes of
// what could not be sent.

#include <utility>
#include <vector>

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

Settings write_back(unsigned connections = 1) {
  return {.connections = connections, .replay = 128 * kBlock, .write_back = true};
}

// With two connections, both of which are open from the start on.
struct Two : Setup {
  Two() : Setup(write_back(2)) { server.open_first(); }
};

const Status kReset(Kind::kLost, "reset");

// The server holds all requests from now on; a write to these blocks is under way.
void hold_a_write(Setup& f, uint64_t block, char fill, uint64_t count = 1) {
  f.server.hold();
  CHECK(f.write(block, fill, count).ok());
  f.server.await_sent(1);
}

}  // namespace

SCRIPT("a write does not wait for the server, and a flush does", "[write_back]") {
  Setup f(write_back());
  f.server.hold();
  CHECK(f.write(0, 'a').ok());
  CHECK(f.zero(100).ok());
  CHECK(f.read(0) == "a");
  CHECK(f.read(100) == std::string(1, '\0'));
  auto flush = f.start_flush();
  pass();
  CHECK_FALSE(flush.done());
  CHECK(f.server.requests() == Requests{wrote(0)});
  f.server.release_all();
  CHECK(flush.get().ok());
  CHECK(f.server.requests() == Requests{wrote(0), zeroed(100), kFlushed});
  CHECK(f.server.content(0) == "a");
}

SCRIPT("a write that nobody flushes is sent", "[write_back]") {
  Setup f(write_back());
  CHECK(f.write(0, 'a').ok());
  f.volume->wait_until_sent();
  CHECK(f.server.content(0) == "a");
  CHECK(f.server.requests() == Requests{wrote(0)});
}

SCRIPT("while a request is under way what is less than another one waits for more",
       "[write_back]") {
  Two f;
  hold_a_write(f, 0, 'a');
  for (uint64_t block = 10; block < 25; ++block) CHECK(f.write(block, 'b').ok());
  pass();
  CHECK(f.server.count(Verb::kWrite) == 1);
  CHECK(f.write(25, 'c').ok());  // sixteen blocks are a whole request
  f.server.await_sent(2);
  CHECK(f.server.sent()[1].asked == wrote(10, 16));
  CHECK(f.server.sent()[1].connection != f.server.sent()[0].connection);
  f.server.release_all();
  CHECK(f.flush().ok());
  CHECK(f.server.content(9, 18) == ".bbbbbbbbbbbbbbbc.");
}

SCRIPT("when a flush waits nothing is kept for later", "[write_back]") {
  Two f;
  hold_a_write(f, 0, 'a');
  CHECK(f.write(100, 'b').ok());
  auto flush = f.start_flush();
  f.server.await_sent(2);
  CHECK(f.server.count(wrote(100)) == 1);
  f.server.release_all();
  CHECK(flush.get().ok());
}

SCRIPT("the last of a copy goes when the request before it is done", "[write_back]") {
  Two f;
  hold_a_write(f, 0, 'a');
  CHECK(f.write(100, 'b').ok());
  f.server.release(1);
  f.server.await_sent(2);
  f.server.release_all();
}

SCRIPT("small zeroes between data go along with it", "[write_back]") {
  Setup f(write_back());
  hold_a_write(f, 0, 'x');
  for (uint64_t block = 10; block < 18; block += 2) {
    CHECK(f.write(block, 'a').ok());
    CHECK(f.zero(block + 1).ok());
  }
  f.server.release_all();
  CHECK(f.flush().ok());
  CHECK(f.server.count(wrote(10, 7)) == 1);
  CHECK(f.server.count(zeroed(17)) == 1);
  CHECK(f.server.content(10, 7) == "a0a0a0a");
}

SCRIPT("what is written again before it was sent is sent once", "[write_back]") {
  Setup f(write_back());
  hold_a_write(f, 0, 'x');
  for (const char fill : {'a', 'b', 'c'}) CHECK(f.write(10, fill).ok());
  CHECK(f.read(10) == "c");
  f.server.release_all();
  CHECK(f.flush().ok());
  CHECK(f.server.count(wrote(10)) == 1);
  CHECK(f.server.content(10) == "c");
}

SCRIPT("where a request is under way a write waits for it", "[write_back]") {
  Two f;
  hold_a_write(f, 0, 'a', 2);
  auto write = f.start_write(1, 'b', 2);
  pass();
  CHECK_FALSE(write.done());
  CHECK(f.read(0, 2) == "aa");
  f.server.release_all();
  CHECK(write.get().ok());
  CHECK(f.flush().ok());
  CHECK(f.server.content(0, 3) == "abb");
}

SCRIPT("a write with FUA is stable by itself, and what it hides is never sent", "[write_back]") {
  Two f;
  hold_a_write(f, 50, 'x');
  CHECK(f.write(0, 'a').ok());
  auto fua = f.start_write(0, 'b', 1, true);
  f.server.await_sent(2);
  CHECK(f.server.sent()[1].asked == wrote_stable(0));
  f.server.release_all();
  CHECK(fua.get().ok());
  CHECK(f.flush().ok());
  CHECK(f.server.count(wrote(0)) == 0);
  CHECK(f.server.content(0) == "b");
}

SCRIPT("nothing is sent where a write with FUA is under way", "[write_back]") {
  Two f;
  f.server.hold();
  auto fua = f.start_write(4, 'f', 1, true);
  f.server.await_sent(1);
  CHECK(f.write(3, 'a').ok());
  auto behind = f.start_write(4, 'b');
  CHECK(f.write(5, 'c').ok());
  pass();
  CHECK_FALSE(behind.done());
  CHECK(f.server.count(wrote(3)) + f.server.count(wrote(5)) == 1);
  f.server.release_all();
  CHECK(fua.get().ok());
  CHECK(behind.get().ok());
  CHECK(f.flush().ok());
  CHECK(f.server.content(3, 3) == "abc");
}

SCRIPT("what the server refuses latches, since it was acknowledged", "[write_back]") {
  Setup f(write_back());
  f.server.refuse(Verb::kWrite, 413);
  CHECK(f.write(0, 'a').ok());
  const Status flushed = f.flush();
  CHECK_FALSE(flushed.ok());
  CHECK(flushed.text().find("acknowledged data could not be sent") != std::string::npos);
  CHECK_FALSE(f.write(10, 'b').ok());
  CHECK_FALSE(f.volume->read({0, kBlock}, std::vector<char>(kBlock).data()).ok());
}

SCRIPT("a server without room is told as such", "[write_back]") {
  Setup f(write_back());
  f.server.fail(Verb::kWrite, {Kind::kNoSpace, "full"}, 1);
  CHECK(f.write(0, 'a').ok());
  CHECK(f.flush().kind() == Kind::kNoSpace);
  CHECK(f.write(1, 'a').kind() == Kind::kNoSpace);
}

SCRIPT("a request that fails is repeated before a flush is done", "[write_back]") {
  Setup f(write_back());
  f.server.fail(Verb::kWrite, kReset, 1);
  CHECK(f.write(0, 'a').ok());
  CHECK(f.flush().ok());
  CHECK(f.server.requests() == Requests{wrote(0), wrote(0), kFlushed});
  CHECK(f.server.content(0) == "a");
}

SCRIPT("what a lost connection has carried is sent again", "[write_back]") {
  Setup f(write_back());
  CHECK(f.write(0, 'a').ok());
  f.volume->wait_until_sent();
  f.server.close_idle(1);
  CHECK(f.flush().ok());
  CHECK(f.server.count(wrote(0)) + f.server.count(wrote_stable(0)) == 2);
}

SCRIPT("what comes while a flush is under way is not covered by it", "[write_back]") {
  Two f;
  CHECK(f.write(0, 'a').ok());
  f.volume->wait_until_sent();
  f.server.hold(kFlushed);
  auto flush = f.start_flush();
  f.server.await(kFlushed);
  CHECK(f.write(0, 'b').ok());
  f.server.let_go(kFlushed);
  CHECK(flush.get().ok());
  CHECK(f.flush().ok());
  CHECK(f.server.count(kFlushed) >= 2);
  CHECK(f.server.content(0) == "b");
}

SCRIPT("a flush does not wait for what comes after it to the same place", "[write_back]") {
  Two f;
  CHECK(f.write(0, 'a').ok());
  f.volume->wait_until_sent();
  f.server.hold(kFlushed);
  auto flush = f.start_flush();
  f.server.await(kFlushed);
  f.server.hold(wrote(0));
  CHECK(f.write(0, 'b').ok());
  f.server.await(wrote(0));
  f.server.let_go(kFlushed);
  CHECK(flush.get().ok());
  CHECK(f.server.content(0) == "a");
  f.server.let_go(wrote(0));
  CHECK(f.flush().ok());
  CHECK(f.server.content(0) == "b");
}

SCRIPT("what hides an orphan waits for its late copies, also beside what is left of it",
       "[write_back]") {
  Two f;
  f.server.hold(wrote_stable(4));
  auto fua = f.start_write(4, 'f', 1, true);
  f.server.await(wrote_stable(4));
  bool lost = false;
  upload::ConnectionId carried_by = 0;
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (asked == wrote(0, 4) && !std::exchange(lost, true))
      return Result<http::Reply>(kReset);  // the server may apply it for a minute
    return f.server.answer(asked, request);
  });
  CHECK(f.write(0, 'a', 4).ok());
  f.volume->wait_until_sent();
  for (const Server::Sent& sent : f.server.sent())
    if (sent.asked == wrote(0, 4)) carried_by = sent.connection;
  // Behind the write with FUA, and then orphans are claimed that it will hide.
  auto write = f.start_write(2, 'b', 3);
  pass();
  f.server.close_idle(carried_by);
  auto flush = f.start_flush();
  pass(1s);
  f.server.let_go(wrote_stable(4));
  CHECK(fua.get().ok());
  CHECK(write.get().ok());
  pass(1s);
  CHECK(f.server.content(0, 4) == "aaaa");
  CHECK_FALSE(flush.done());
  CHECK(flush.get().ok());
  CHECK(f.flush().ok());
  CHECK(f.server.content(0, 5) == "aabbb");
}

SCRIPT("whoever finds no room gets it when something was sent and flushed", "[write_back]") {
  Two f;
  for (uint64_t block = 0; block < 1000; block += 10) CHECK(f.write(block, 'a', 10).ok());
  CHECK(f.flush().ok());
  CHECK(f.server.content(0, 10) == "aaaaaaaaaa");
  CHECK(f.server.content(990, 10) == "aaaaaaaaaa");
}

SCRIPT("nobody overtakes a large change that waits for room", "[write_back]") {
  Setup f(write_back());
  f.server.hold();
  // Seven of these fit into the log.
  for (uint64_t block = 0; block < 70; block += 10) CHECK(f.write(block, 'a', 10).ok());
  auto large = f.start_write(100, 'b', 10);
  pass();
  auto small = f.start_write(200, 'c');
  auto last = f.start_write(300, 'd');
  pass();
  CHECK_FALSE(large.done());
  CHECK_FALSE(small.done());
  f.server.release_all();
  CHECK(large.get().ok());
  CHECK(small.get().ok());
  CHECK(last.get().ok());
  CHECK(f.flush().ok());
  CHECK(f.server.content(100) + f.server.content(200) + f.server.content(300) == "bcd");
}

SCRIPT("who gives up waiting for room leaves it to the next", "[write_back]") {
  Settings settings = write_back();
  settings.spool = new_directory();
  settings.spool_size = settings.replay;
  settings.retry_time = 10s;
  Setup f(settings);
  f.server.away();
  for (uint64_t block = 0; block < 110; block += 10) CHECK(f.write(block, 'a', 10).ok());
  auto large = f.start_write(200, 'b', 20);
  pass();
  auto small = f.start_write(300, 'c');
  pass();
  CHECK_FALSE(small.done());
  CHECK_FALSE(large.get().ok());
  pass();
  CHECK(small.done());
  CHECK(small.get().ok());
}

SCRIPT("there are not more flushes than room asks for", "[write_back]") {
  Setup f(write_back());
  for (uint64_t block = 0; block < 2048; block += 16) CHECK(f.write(block, 'a', 16).ok());
  CHECK(f.flush().ok());
  // About a hundred blocks fit into the log.
  CHECK(f.server.count(Verb::kFlush) < 64);
}

namespace {

// Behind a whole request so much waits that the next may be larger.
void let_much_wait(Setup& f) {
  hold_a_write(f, 0, 'a', 16);
  for (uint64_t block = 100; block < 180; block += 16) CHECK(f.write(block, 'b', 16).ok());
}

}  // namespace

// The last is not large, but the flush waits for it.
SCRIPT("requests are larger where more waits, and need no flush when the log is half full",
       "[write_back]") {
  Setup f(write_back());
  let_much_wait(f);
  f.server.release_all();
  CHECK(f.flush().ok());
  CHECK(f.server.requests() ==
        Requests{wrote(0, 16), wrote_stable(100, 64), wrote_stable(164, 16), kFlushed});
  CHECK(f.server.content(99, 82) == "." + std::string(80, 'b') + ".");
}

SCRIPT("what is too large in one request goes in smaller ones", "[write_back]") {
  Setup f(write_back());
  let_much_wait(f);
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (asked.verb == Verb::kWrite && asked.range.length > 20 * kBlock)
      return Result<http::Reply>(Server::ok(413));
    return f.server.answer(asked, request);
  });
  f.server.release_all();
  CHECK(f.flush().ok());
  CHECK(f.server.content(99, 82) == "." + std::string(80, 'b') + ".");
  for (uint64_t block = 200; block < 1000; block += 16) CHECK(f.write(block, 'c', 16).ok());
  CHECK(f.flush().ok());
  // None as large is tried again.
  uint64_t least = UINT64_MAX;
  for (const Server::Sent& sent : f.server.sent()) {
    const uint64_t length = sent.asked.range.length;
    if (sent.asked.verb != Verb::kWrite || length <= 20 * kBlock) continue;
    CHECK(length < least);
    least = length;
  }
}

SCRIPT("what was carried by a large request that is lost goes again, in smaller ones",
       "[write_back]") {
  Setup f(write_back());
  let_much_wait(f);
  bool lost = false;
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (asked == wrote_stable(100, 64) && !std::exchange(lost, true)) {
      (void)f.server.answer(asked, request);
      return Result<http::Reply>(kReset);
    }
    return f.server.answer(asked, request);
  });
  f.server.release_all();
  CHECK(f.flush().ok());
  CHECK(lost);
  CHECK(f.server.content(0, 16) == std::string(16, 'a'));
  CHECK(f.server.content(99, 82) == "." + std::string(80, 'b') + ".");
  CHECK(f.server.count(wrote_stable(100, 64)) == 1);
}

SCRIPT("what hides a large request that is lost waits for its late copies and no longer",
       "[write_back]") {
  Settings settings = write_back();
  settings.replay = 256 * kBlock;
  Setup f(settings);
  CHECK(f.write(0, 'a', 16).ok());
  CHECK(f.flush().ok());
  // While the connection is busy so much waits that it goes in one larger request.
  f.server.hold(wrote_stable(50));
  f.server.hold(wrote(100, 64));
  auto fua = f.start_write(50, 'f', 1, true);
  f.server.await(wrote_stable(50));
  for (uint64_t block = 100; block < 164; block += 16) CHECK(f.write(block, 'b', 16).ok());
  f.server.let_go(wrote_stable(50));
  CHECK(fua.get().ok());
  f.server.await(wrote(100, 64));
  // All of it is about to be hidden, and nothing else is to be sent.
  std::vector<Task<Status>> writes;
  for (uint64_t block = 100; block < 164; block += 16)
    writes.push_back(f.start_write(block, 'c', 16));
  pass();
  f.server.fail(Verb::kWrite, kReset, 1);
  f.server.let_go(wrote(100, 64));
  for (auto& write : writes) CHECK(write.get().ok());
  const auto lost = f.now();
  CHECK(f.flush().ok());
  CHECK(f.now() - lost < 90s);
  CHECK(f.server.content(99, 66) == "." + std::string(64, 'c') + ".");
}

SCRIPT("the longest run goes first", "[write_back]") {
  Two f;
  hold_a_write(f, 0, 'x');
  CHECK(f.write(10, 'a').ok());
  for (uint64_t block = 20; block < 36; ++block) CHECK(f.write(block, 'b').ok());
  f.server.await_sent(2);
  CHECK(f.server.sent()[1].asked.range.offset == 20 * kBlock);
  f.server.release_all();
  CHECK(f.flush().ok());
}

SCRIPT("what was not sent when the server goes away is in the spool", "[write_back]") {
  Settings settings = write_back();
  settings.spool = new_directory();
  Setup f(settings);
  f.server.away();
  CHECK(f.write(0, 'a').ok());
  CHECK(f.write(10, 'b').ok());
  pass(60s);
  CHECK(f.write(20, 'c').ok());
  CHECK(f.read(0) == "a");
  CHECK(f.read(20) == "c");
  f.server.back();
  CHECK(f.flush().ok());
  f.settle();
  CHECK(f.write(30, 'd').ok());
  CHECK(f.flush().ok());
  CHECK(f.server.content(0) + f.server.content(10) + f.server.content(20) +
            f.server.content(30) ==
        "abcd");
}

SCRIPT("where replies mean stable a flush waits for what is unsent, and needs no more",
       "[write_back]") {
  Settings settings = write_back();
  settings.durability = Durability::kOnReply;
  settings.server_block = 4;
  Setup f(settings);
  f.server.hold();
  CHECK(f.write(0, 'a', 4).ok());
  auto flush = f.start_flush();
  f.server.await_sent(1);
  CHECK_FALSE(flush.done());
  f.server.release_all();
  CHECK(flush.get().ok());
  CHECK(f.write(5, 'b', 2).ok());
  CHECK(f.flush().ok());
  CHECK(f.server.content(5, 2) == "bb");
  CHECK(f.server.count(kFlushed) == 0);
}

SCRIPT("what can not be sent until the end is said", "[write_back]") {
  Settings settings = write_back();
  settings.away = true;
  settings.retry_time = 10s;
  Setup f(settings);
  CHECK(f.write(0, 'a').ok());
  CHECK_FALSE(f.flush().ok());
  f.volume->wait_until_sent();  // does not wait for what will not be
}

SCRIPT("changes of one block that fail together are repeated together", "[write_back]") {
  Settings settings = write_back();
  settings.durability = Durability::kOnReply;
  settings.server_block = 4;
  Setup f(settings);
  hold_a_write(f, 100, 'x', 4);
  CHECK(f.write(1, 'a').ok());
  CHECK(f.write(2, 'b').ok());
  int failures = 2;
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (asked == wrote_stable(0, 4) && failures-- > 0) return Result<http::Reply>(kReset);
    return f.server.answer(asked, request);
  });
  f.server.release_all();
  const auto start = f.now();
  CHECK(f.flush().ok());
  CHECK(f.now() - start < 60s);  // nobody has waited for late copies
  CHECK(f.server.content(1, 2) == "ab");
}
