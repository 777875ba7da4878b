// SPDX-License-Identifier: BSD-3-Clause
//
// A volume with a replay log: what is sent again, in which order, and when it is
// given up.

#include <cstring>
#include <map>

#include "script/setup.h"

using namespace std::chrono_literals;
using namespace upload::script;
using upload::Kind;
using upload::Result;
using upload::Status;
namespace http = upload::http;

namespace {

struct Fixture : Setup {
  explicit Fixture(unsigned connections = 2, upload::Duration denied_wait = 0s)
      : Setup({.connections = connections, .replay = 128 * kBlock, .denied_wait = denied_wait}) {}

  // What happens to each request in turn: a status of HTTP, or 0 for a connection that
  // is lost, or -1 for one that is refused. The last is for all that follow.
  void answer(std::vector<int> with) {
    server.on_request(
        [this, with, next = std::make_shared<size_t>(0)](
            const Asked& asked, const http::Request& request) -> Result<http::Reply> {
          const int status = with[std::min((*next)++, with.size() - 1)];
          if (status == 0) return Status(Kind::kLost, "reset");
          if (status == -1) return Status(Kind::kConnect, "refused");
          return status == 200 ? server.answer(asked, request) : Server::ok(status);
        });
  }
};

const Status kReset(Kind::kLost, "reset");
const Status kRefused(Kind::kConnect, "refused");

}  // namespace

SCRIPT("a request that fails is repeated, and its client does not learn of it", "[replay]") {
  Fixture f(1);
  f.server.fail(Verb::kWrite, kReset, 1);
  CHECK(f.write(0).ok());
  CHECK(f.server.requests() == Requests{wrote(0), wrote(0)});
  CHECK(f.flush().ok());
}

// Whoever finds no connection fails with all others that wait for one; but not when it has
// found one since, and is refused over that.
SCRIPT("what is refused after an outage fails alone", "[replay]") {
  Fixture f(2);
  bool is_back = false;
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (!is_back) return Result<http::Reply>(kRefused);
    if (asked.range.offset == 10 * kBlock) return Result<http::Reply>(Server::ok(413));
    return f.server.answer(asked, request);
  });
  f.server.hold();
  auto first = f.start_write(0);
  f.server.await_sent(1);
  auto refused = f.start_write(10);  // waits for the connection that is being opened
  pass();
  f.server.open_first();
  f.server.release(1);
  f.server.await(wrote(10));
  is_back = true;
  auto waits = f.start_write(20);
  pass();
  f.server.release_all();
  CHECK(refused.get().kind() == Kind::kNoSpace);
  CHECK(first.get().ok());
  CHECK(waits.get().ok());
}

SCRIPT("what a lost connection carried is sent again before a flush succeeds", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  CHECK(f.flush().ok());
  CHECK(f.server.requests() == Requests{wrote(0), wrote_stable(0)});
}

SCRIPT("after a flush that fails its data is sent again, to be stable", "[replay]") {
  for (const Status& status : {kReset, Status(Kind::kServerError, "500")}) {
    Fixture f(1);
    CHECK(f.write(0).ok());
    CHECK(f.write(1).ok());
    f.server.fail(Verb::kFlush, status, 1);
    CHECK(f.flush().ok());
    CHECK(f.server.requests() == Requests{wrote(0), wrote(1), kFlushed, wrote_stable(0, 2)});
  }
}

// What orphans take is no reason to flush: that would not free it.
SCRIPT("while orphans fill the log changes are not flushed one by one", "[replay]") {
  Fixture f(4);
  f.server.open_first();
  bool is_lost = false;
  bool replays = false;
  size_t flushes = 0;
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (asked.verb == Verb::kFlush && !is_lost) {
      while (!is_lost) pass(1ms);
      return Result<http::Reply>(kReset);
    }
    if (asked.verb == Verb::kFlush) ++flushes;
    if (is_lost && asked.verb == Verb::kWrite && asked.range.offset < 200 * kBlock)
      while (!replays) pass(1ms);
    return f.server.answer(asked, request);
  });
  for (uint64_t i = 0; i < 6; ++i) CHECK(f.write(20 * i, 'a', 12).ok());
  pass();
  is_lost = true;
  pass();
  flushes = 0;
  for (uint64_t i = 0; i < 20; ++i) {
    CHECK(f.write(300 + 2 * i).ok());
    pass(5ms);
  }
  CHECK(flushes <= 1);
  replays = true;
  CHECK(f.flush().ok());
  CHECK(f.server.content(0, 12) == "aaaaaaaaaaaa");
}

// Nobody knows whether the server applies the first yet before it has answered.
SCRIPT("a range in doubt takes no change for the retry time, and not longer", "[replay]") {
  Fixture f(2);
  int requests = 0;
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (asked.verb != Verb::kWrite) return f.server.answer(asked, request);
    return ++requests == 1 ? Result<http::Reply>(kReset) : Result<http::Reply>(Server::ok(413));
  });
  CHECK(f.write(0, 'a', 1, true).kind() == Kind::kNoSpace);
  f.server.on_request(nullptr);
  f.server.away(kRefused);
  const auto began = f.now();
  const Status status = f.write(0, 'b');
  CHECK(status.kind() == Kind::kUnavailable);
  CHECK(status.text().find("may still be applying it") != std::string::npos);
  CHECK(f.now() - began >= 300s);
  CHECK(f.now() - began < 500s);
}

// A list may take five times the time-out. That is not taken for a stop of the process,
// after which everybody would have another round.
SCRIPT("extents that never come in time end", "[replay]") {
  Setup f({.can_extents = true, .replay = 128 * kBlock});
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (asked.verb != Verb::kExtents) return f.server.answer(asked, request);
    pass(300s);
    return Result<http::Reply>(kReset);
  });
  const auto began = f.now();
  CHECK_FALSE(f.volume->extents().ok());
  CHECK(f.now() - began < 1h);
}

SCRIPT("many orphans are sent again with few flushes", "[replay]") {
  Fixture f(1);
  for (uint64_t i = 0; i < 40; ++i) CHECK(f.write(2 * i).ok());
  f.server.close_idle(1);
  CHECK(f.flush().ok());
  CHECK(f.server.count(kFlushed) <= 2);
  size_t stable = 0;
  for (const auto& sent : f.server.sent()) stable += sent.asked.stable ? 1 : 0;
  CHECK(stable <= 1);
  CHECK(f.server.sent().size() <= 40 + 40 + 2);
}

SCRIPT("many orphans are sent again over several connections", "[replay]") {
  Fixture f(4);
  f.server.open_first();
  for (uint64_t i = 0; i < 50; ++i) CHECK(f.write(2 * i).ok());
  f.server.close_idle(1);
  const size_t before = f.server.sent().size();
  f.server.hold();
  auto flushed = f.start_flush();
  f.server.await_sent(before + 2);
  const auto sent = f.server.sent();
  CHECK(sent[before].connection != sent[before + 1].connection);
  CHECK(sent[before].asked.verb == Verb::kWrite);
  CHECK_FALSE(sent[before].asked.stable);
  f.server.release_all();
  CHECK(flushed.get().ok());
}

SCRIPT("a replay ends though connections die every few requests", "[replay]") {
  Fixture f(2);
  for (uint64_t i = 0; i < 40; ++i) CHECK(f.write(2 * i).ok());
  f.server.close_idle(1);
  int requests = 0;
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    if (++requests % 3 == 0) return Result<http::Reply>(kReset);
    return f.server.answer(asked, request);
  });
  CHECK(f.flush().ok());
  for (uint64_t i = 0; i < 40; ++i) CHECK(f.server.content(2 * i) == "a");
}

SCRIPT("only the newest content is sent again", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0, 'a', 4).ok());
  CHECK(f.zero(1).ok());
  CHECK(f.write(2, 'b').ok());
  std::string content;
  f.server.close_idle(1);
  f.server.on_request([&](const Asked& asked, const http::Request& request) {
    for (const auto& part : request.parts) {
      CHECK(part.length == kBlock);
      content += part.data == nullptr ? '0' : *static_cast<const char*>(part.data);
    }
    return f.server.answer(asked, request);
  });
  CHECK(f.flush().ok());
  CHECK(f.server.content(0, 4) == "a0ba");
  // A small zero goes along as data.
  CHECK(content == "a0ba");
}

SCRIPT("what was flushed is not sent again", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  CHECK(f.flush().ok());
  f.server.close_idle(1);
  CHECK(f.write(1).ok());
  CHECK(f.flush().ok());
  CHECK(f.server.count(wrote(0)) == 1);
  CHECK(f.server.count(wrote_stable(0)) == 0);
}

SCRIPT("a stable write that is newer is not overwritten by a replay", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  CHECK(f.write(0, 'b', 1, true).ok());
  f.server.close_idle(1);
  CHECK(f.write(1).ok());
  CHECK(f.flush().ok());
  CHECK(f.server.count(wrote(0)) == 1);
  CHECK(f.server.count(wrote_stable(0)) == 1);
  CHECK(f.server.content(0) == "b");
}

SCRIPT("reads give what is acknowledged, also while the server has lost it", "[replay]") {
  Fixture f(1);
  CHECK(f.write(1, 'x').ok());
  f.server.on_request([](const Asked& asked, const http::Request& request) {
    if (asked.verb != Verb::kRead) return Result<http::Reply>(Server::ok());
    memset(request.sink.data(), '-', request.sink.size());
    http::Reply reply = Server::ok(206);
    reply.headers.set("Content-Range", "bytes 0-12287/16777216");
    reply.sunk = request.sink.size();
    return Result<http::Reply>(reply);
  });
  std::string buffer(3 * kBlock, '?');
  CHECK(f.volume->read({0, buffer.size()}, buffer.data()).ok());
  CHECK(buffer == std::string(kBlock, '-') + std::string(kBlock, 'x') + std::string(kBlock, '-'));
  const size_t sent = f.server.requests().size();
  std::string block(kBlock, '?');
  CHECK(f.volume->read({kBlock, kBlock}, block.data()).ok());
  CHECK(block == std::string(kBlock, 'x'));
  CHECK(f.server.requests().size() == sent);  // all of it was in the log
}

SCRIPT("an outage is ridden out, with growing pauses", "[replay]") {
  Fixture f(1);
  f.server.fail(Verb::kWrite, kRefused, 8);
  CHECK(f.write(0).ok());
  CHECK(f.server.requests() == Requests(9, wrote(0)));
  // At once, then after 0.1 s, doubled each time up to 5 s, less half of it at random.
  const auto& sent = f.server.sent();
  CHECK(sent[1].when - sent[0].when < 2ms);
  upload::Duration longest = 100ms;
  for (size_t i = 2; i < sent.size(); ++i) {
    const upload::Duration pause = sent[i].when - sent[i - 1].when;
    CHECK(pause >= longest / 2);
    CHECK(pause < longest + 2ms);
    longest = std::min<upload::Duration>(2 * longest, 5s);
  }
}

SCRIPT("Retry-After is honoured, up to a minute", "[replay]") {
  Fixture f(1);
  f.server.on_request([&](const Asked&, const http::Request&) -> Result<http::Reply> {
    http::Reply reply = Server::ok(f.server.sent().size() <= 2 ? 503 : 200);
    reply.headers.set("Retry-After", "120");
    return reply;
  });
  CHECK(f.write(0).ok());
  const auto& sent = f.server.sent();
  REQUIRE(sent.size() == 3);
  for (const size_t i : {1, 2}) {
    CHECK(sent[i].when - sent[i - 1].when >= 60s);
    CHECK(sent[i].when - sent[i - 1].when < 60s + 10ms);
  }
}

SCRIPT("after the retry time the error latches and says what is lost", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  f.server.fail(Verb::kWrite, kRefused);
  const auto began = f.now();
  const Status status = f.flush();
  CHECK(f.now() - began >= 300s);
  CHECK(f.now() - began < 300s + 10ms);
  CHECK(status.text().find("gave up after 300 seconds (retry-time=), with 4096 acknowledged "
                           "bytes that could not be sent again") != std::string::npos);
  CHECK(status.text().find("refused") != std::string::npos);
  CHECK(f.write(1).text() == status.text());
}

SCRIPT("a ticket that is denied during a replay ends it at once", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  f.server.on_request(
      [](const Asked&, const http::Request&) -> Result<http::Reply> { return Server::ok(403); });
  CHECK(f.flush().kind() == Kind::kDenied);
  CHECK(f.write(1).kind() == Kind::kDenied);
}

SCRIPT("a ticket that is denied after a connection was lost is waited for", "[replay]") {
  for (const int status : {403, 404, 410}) {
    Fixture f(1, 20s);
    f.answer({0, status, status, status, status, 200});
    CHECK(f.write(0).ok());
    CHECK(f.server.requests() == Requests(6, wrote(0)));
    CHECK(f.flush().ok());
  }
}

SCRIPT("what was acknowledged is sent again when the ticket is back", "[replay]") {
  Fixture f(1, 20s);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  f.answer({403, 403, 403, 200});
  CHECK(f.flush().ok());
  CHECK(f.server.requests() ==
        Requests{wrote(0), wrote_stable(0), wrote_stable(0), wrote_stable(0), wrote_stable(0)});
}

SCRIPT("a flush that is denied after a connection was lost is waited for, too", "[replay]") {
  Fixture f(1, 20s);
  f.answer({0, 200, 403, 403, 403, 200});
  CHECK(f.write(0).ok());
  CHECK(f.flush().ok());
  CHECK(f.server.requests() == Requests{wrote(0), wrote(0), kFlushed, wrote_stable(0),
                                        wrote_stable(0), wrote_stable(0)});
}

SCRIPT("a read that is denied after a connection was lost is waited for, too", "[replay]") {
  Fixture f(1, 20s);
  f.answer({0, 403, 403, 200});
  CHECK(f.read(1) == std::string(1, '\0'));
  CHECK(f.server.count(Verb::kRead) == 4);
}

SCRIPT("without a lost connection a ticket that is denied ends it at once", "[replay]") {
  Fixture f(1, 20s);
  CHECK(f.write(0).ok());
  f.answer({403});
  const Status status = f.write(1);
  CHECK(status.kind() == Kind::kDenied);
  CHECK(status.text().find("denied-wait") == std::string::npos);
  CHECK(f.write(2).kind() == Kind::kDenied);
  CHECK(f.server.requests() == Requests{wrote(0), wrote(1)});
}

SCRIPT("without denied-wait a ticket that is denied after an outage ends it at once",
       "[replay]") {
  Fixture f(1);
  f.answer({0, 403});
  const Status status = f.write(0);
  CHECK(status.kind() == Kind::kDenied);
  CHECK(status.text().find("denied-wait") == std::string::npos);
  CHECK(f.write(1).kind() == Kind::kDenied);
  CHECK(f.server.requests() == Requests{wrote(0), wrote(0)});
}

SCRIPT("a ticket that is denied for longer than denied-wait ends it, and says so", "[replay]") {
  Fixture f(1, 20s);
  f.answer({0, 403});
  const auto began = f.now();
  CHECK(f.write(0).kind() == Kind::kDenied);
  const auto waited = f.now() - began;
  CHECK(waited >= 20s);
  CHECK(waited < 20s + 5s + 10ms);
  const size_t sent = f.server.sent().size();
  CHECK(f.write(1).text() ==
        "disk: could not write 4096 bytes at offset 0: HTTP status 403: the ticket expired, was "
        "cancelled or does not allow this "
        "(waited for " +
            std::to_string(upload::seconds(waited)) + " seconds, denied-wait=)");
  CHECK(f.server.sent().size() == sent);
}

SCRIPT("each outage has its own wait for the ticket", "[replay]") {
  Fixture f(1, 20s);
  // The outage in between takes longer than the wait.
  f.answer({0, 403, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 403, 403, 200});
  const auto began = f.now();
  CHECK(f.write(0).ok());
  CHECK(f.now() - began > 25s);
  CHECK(f.server.requests() == Requests(19, wrote(0)));
}

SCRIPT("connections that are lost while the ticket is denied don't make the wait longer",
       "[replay]") {
  Fixture f(1, 20s);
  std::vector<int> answers;
  for (int i = 0; i < 40; ++i) answers.push_back(i % 2 == 0 ? 0 : 403);
  f.answer(answers);
  const auto began = f.now();
  CHECK(f.write(0).kind() == Kind::kDenied);
  CHECK(f.now() - began < 20s + 10s + 10ms);
}

SCRIPT("a server that could not be reached may have forgotten the ticket, too", "[replay]") {
  Fixture f(1, 20s);
  f.answer({-1, -1, 403, 403, 200});
  CHECK(f.write(0).ok());
}

SCRIPT("a long time after an outage a ticket that is denied ends it at once", "[replay]") {
  Fixture f(1, 20s);
  f.answer({0, 200});
  CHECK(f.write(0).ok());
  pass(321s);
  f.answer({403});
  const auto before = f.now();
  CHECK(f.write(1).kind() == Kind::kDenied);
  CHECK(f.now() - before < 1s);
}

SCRIPT("no late copy comes of what was denied", "[replay]") {
  Fixture f(1, 20s);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  f.answer({403, 403, 200});
  CHECK(f.flush().ok());
  CHECK_FALSE(f.volume->late_copies_may_come().has_value());
}

SCRIPT("a newer write to a range in doubt waits until no late copy can come", "[replay]") {
  Fixture f(1);
  f.server.fail(Verb::kWrite, kReset, 1);
  CHECK(f.write(0).ok());  // its first copy may yet arrive
  CHECK(f.write(1).ok());  // elsewhere
  const auto began = f.now();
  auto newer = f.start_write(0, 'b');
  pass(59s);
  CHECK_FALSE(newer.done());
  CHECK(f.server.count(wrote(0)) == 2);
  CHECK(newer.get().ok());
  CHECK(f.now() - began < 60s + 10ms);
  CHECK(f.server.count(wrote(0)) == 3);
  CHECK(f.server.content(0) == "b");
}

SCRIPT("a full log is flushed in the background, and writers wait only for room", "[replay]") {
  Fixture f(2);
  for (uint64_t block = 0; block < 1000; ++block) REQUIRE(f.write(block).ok());
  CHECK(f.server.count(kFlushed) >= 5);
  CHECK(f.flush().ok());
}

SCRIPT("a change that is too large for the log is sent in pieces", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0, 'a', 200).ok());
  CHECK(f.server.count(wrote(0, 64)) == 1);
  CHECK(f.flush().ok());
  uint64_t bytes = 0;
  for (const auto& sent : f.server.sent()) bytes += sent.bytes;
  CHECK(bytes == 200 * kBlock);
}

SCRIPT("dirty connections are flushed side by side", "[replay]") {
  Fixture f(4);
  f.server.open_first();
  f.server.hold();
  std::vector<Task<Status>> writes;
  for (uint64_t block = 0; block < 4; ++block) writes.push_back(f.start_write(2 * block));
  f.server.await_sent(4);
  f.server.release_all();
  for (auto& write : writes) CHECK(write.get().ok());
  f.server.hold(kFlushed);
  auto flush = f.start_flush();
  f.server.await_sent(8);
  CHECK(f.server.count(kFlushed) == 4);
  // Each of them counts: what one that is lost has covered is sent again, and flushed.
  f.server.fail(Verb::kFlush, kReset, 1);
  f.server.let_go(kFlushed);
  CHECK(flush.get().ok());
  CHECK(f.server.sent().size() > 8);
}

SCRIPT("a flush does not wait for what a stable write has made good", "[replay]") {
  Fixture f(4);
  f.server.open_first();
  const auto last_connection = [&] { return f.server.sent().back().connection; };
  // Four connections, all of them clean. The one that was used last is used next.
  f.server.hold();
  std::vector<Task<Status>> writes;
  for (uint64_t i = 0; i < 4; ++i) writes.push_back(f.start_write(200 + 2 * i));
  f.server.await_sent(4);
  f.server.release_all();
  for (auto& write : writes) CHECK(write.get().ok());
  CHECK(f.flush().ok());
  CHECK(f.server.count(kFlushed) == 4);
  // The recovery thread hangs in a flush of the last, of what will be hidden.
  f.server.hold(kFlushed);
  CHECK(f.write(100, 'y', 64).ok());
  f.server.await_sent(10);
  CHECK(f.server.requests().back() == kFlushed);
  const upload::ConnectionId flushing = last_connection();
  // The connection with block 0 on it is busy, and a stable write to block 0 under way.
  CHECK(f.write(0).ok());
  const upload::ConnectionId first = last_connection();
  f.server.hold(wrote(60));
  auto other = f.start_write(60);
  f.server.await(wrote(60));
  CHECK(last_connection() == first);
  f.server.hold(wrote_stable(0));
  auto stable = f.start_write(0, 'x', 1, true);
  f.server.await(wrote_stable(0));
  CHECK(f.write(100, 'x', 64, true).ok());
  // That connection is lost: block 0 is an orphan.
  f.server.fail(Verb::kWrite, kReset, 1);
  f.server.let_go(wrote(60));
  CHECK(other.get().ok());
  CHECK(last_connection() != flushing);
  auto flush = f.start_flush();
  pass();
  CHECK_FALSE(flush.done());
  CHECK(f.server.count(kFlushed) == 5);
  f.server.let_go(wrote_stable(0));
  CHECK(stable.get().ok());
  pass();
  // What is at block 60 is left to be flushed.
  CHECK(f.server.count(kFlushed) == 6);
  f.server.fail(Verb::kFlush, kReset, 1);
  f.server.let_go(kFlushed);
  pass(10s);
  const bool ended = flush.done();
  CHECK(ended);
  if (!ended) CHECK(f.write(70).ok());  // wakes it up
  CHECK(flush.get().ok());
  CHECK(f.server.content(0) == "x");
  CHECK(f.server.content(60) == "a");
  CHECK(f.server.content(100, 64) == std::string(64, 'x'));
}

SCRIPT("a write with FUA takes no room in the log, and waits for none", "[replay]") {
  Fixture f(2);
  f.server.hold(kFlushed);
  // Seven of these fit into the log, which is being flushed.
  for (uint64_t block = 0; block < 70; block += 10) CHECK(f.write(block, 'a', 10).ok());
  auto waits = f.start_write(100, 'b', 10);
  pass();
  CHECK_FALSE(waits.done());
  auto fua = f.start_write(200, 'c', 1, true);
  pass();
  CHECK(fua.done());
  CHECK_FALSE(waits.done());
  f.server.let_go(kFlushed);
  CHECK(fua.get().ok());
  CHECK(waits.get().ok());
}

SCRIPT("time in which the process was stopped is not the server's", "[replay]") {
  Settings settings;
  settings.replay = 128 * kBlock;
  settings.retry_time = 30s;
  Setup f(settings);
  f.server.away(kReset);
  auto write = f.start_write(0);
  pass(20s);  // more attempts than are made at least
  upload::sim::scheduler().stop_process(60s);
  pass(3s);  // as after a suspend: the network is not there at once
  CHECK_FALSE(write.done());
  f.server.back();
  CHECK(write.get().ok());
}
