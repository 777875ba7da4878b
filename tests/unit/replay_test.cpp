// SPDX-License-Identifier: BSD-3-Clause
//
// A volume with a replay log over fake connections: what is sent again, in
// which order, and when it is given up.

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <future>
#include <map>
#include <thread>

#include "catch.h"
#include "disk.h"
#include "fakes.h"

using namespace std::chrono_literals;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::pool::Pool;
using upload::testing::FakeClock;
using upload::testing::FakeServer;
using upload::testing::kBlock;
using upload::volume::Volume;
namespace http = upload::http;

namespace {

struct Fixture {
  explicit Fixture(unsigned connections = 2, upload::Duration late = 60s,
                   upload::Duration denied_wait = 0s)
      : pool({connections, 10s, 60s}, server.factory(), clock),
        volume(options(late, denied_wait), pool, clock, stats) {}
  ~Fixture() {
    server.release_all();
    upload::testing::end(volume, pool);
  }

  static upload::volume::VolumeOptions options(upload::Duration late,
                                               upload::Duration denied_wait) {
    upload::volume::VolumeOptions options = upload::testing::disk_options(4096);
    options.replay = 128 * kBlock;
    options.retry_time = 300s;
    options.late = late;
    options.denied_wait = denied_wait;
    return options;
  }

  Status write(uint64_t block, char fill = 'a', uint64_t count = 1) {
    const std::vector<char> data(count * kBlock, fill);
    return volume.write({block * kBlock, data.size()}, data.data(), false);
  }
  std::vector<std::string> what() {
    std::vector<std::string> list;
    for (const auto& sent : server.sent()) list.push_back(sent.what);
    return list;
  }
  size_t count(const std::string& what) {
    size_t n = 0;
    for (const auto& sent : server.sent()) n += sent.what == what ? 1 : 0;
    return n;
  }
  // What happens to each request in turn: a status of HTTP, or 0 for a connection that
  // is lost, or -1 for one that is refused. The last is for all that follow.
  void answer(std::vector<int> with) {
    auto next = std::make_shared<std::atomic<size_t>>(0);
    server.on_request([=](const http::Request&) -> Result<http::Reply> {
      const int status = with[std::min(next->fetch_add(1), with.size() - 1)];
      if (status == 0) return Status(Kind::kLost, "reset");
      if (status == -1) return Status(Kind::kConnect, "refused");
      return FakeServer::ok(status);
    });
  }
  // Each time when that many requests have been sent, and whoever sends them waits to
  // try again: moves time.
  void pass_time_after(size_t first, size_t last, upload::Duration step) {
    for (size_t sent = first; sent <= last; ++sent) {
      server.await_sent(sent);
      clock.await_sleepers(1);
      clock.advance(step);
    }
  }
  // The first `times` requests like this fail; the others succeed.
  void fail(const std::string& prefix, const Status& status, int times = 1) {
    auto left = std::make_shared<std::atomic<int>>(times);
    server.on_request([=](const http::Request& request) -> Result<http::Reply> {
      if (request.what.compare(0, prefix.size(), prefix) == 0 && (*left)-- > 0) return status;
      return FakeServer::ok();
    });
  }

  FakeClock clock;
  FakeServer server;
  upload::Stats stats;
  Pool pool;
  Volume volume;
};

using Texts = std::vector<std::string>;
const Status kReset(Kind::kLost, "reset");
const char kWrite0[] = "write 4096 bytes at offset 0";
const char kWrite1[] = "write 4096 bytes at offset 4096";

}  // namespace

TEST_CASE("a request that fails is repeated, and its client does not learn of it",
          "[replay]") {
  Fixture f(1);
  f.fail("write", kReset);
  CHECK(f.write(0).ok());
  CHECK(f.what() == Texts{kWrite0, kWrite0});
  CHECK(f.volume.flush().ok());
}

TEST_CASE("what a lost connection carried is sent again before a flush succeeds",
          "[replay]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  CHECK(f.volume.flush().ok());
  CHECK(f.what() == Texts{kWrite0, kWrite0});
  CHECK(f.server.sent().back().target == "/images/t?flush=y");
}

TEST_CASE("after a flush that fails its data is sent again, to be stable", "[replay]") {
  for (const Status& status : {kReset, Status(Kind::kServerError, "500")}) {
    Fixture f(1);
    CHECK(f.write(0).ok());
    CHECK(f.write(1).ok());
    f.fail("flush", status);
    CHECK(f.volume.flush().ok());
    CHECK(f.what() ==
          Texts{kWrite0, kWrite1, "flush", "write 8192 bytes at offset 0"});
  }
}

TEST_CASE("many orphans are sent again with few flushes", "[replay]") {
  Fixture f(1);
  for (uint64_t i = 0; i < 40; ++i) CHECK(f.write(2 * i).ok());
  f.server.close_idle(1);
  CHECK(f.volume.flush().ok());
  CHECK(f.count("flush") <= 2);
  size_t stable = 0;
  for (const auto& sent : f.server.sent()) stable += sent.target == "/images/t?flush=y" ? 1 : 0;
  CHECK(stable <= 1);
  CHECK(f.server.sent().size() <= 40 + 40 + 2);
}

TEST_CASE("many orphans are sent again over several connections", "[replay]") {
  Fixture f(4);
  f.server.open_first();
  for (uint64_t i = 0; i < 50; ++i) CHECK(f.write(2 * i).ok());
  f.server.close_idle(1);
  const size_t before = f.server.sent().size();
  f.server.hold();
  auto flushed = std::async(std::launch::async, [&] { return f.volume.flush(); });
  f.server.await_sent(before + 2);
  const auto sent = f.server.sent();
  CHECK(sent[before].connection != sent[before + 1].connection);
  CHECK(sent[before].target == "/images/t?flush=n");
  f.server.release_all();
  CHECK(flushed.get().ok());
}

TEST_CASE("a replay ends though connections die every few requests", "[replay]") {
  Fixture f(2);
  for (uint64_t i = 0; i < 40; ++i) CHECK(f.write(2 * i).ok());
  f.server.close_idle(1);
  std::atomic<int> requests = 0;
  f.server.on_request([&](const http::Request&) -> Result<http::Reply> {
    if (++requests % 3 == 0) return kReset;
    return FakeServer::ok();
  });
  auto flushed = std::async(std::launch::async, [&] { return f.volume.flush(); });
  while (flushed.wait_for(1ms) != std::future_status::ready) f.clock.advance(100ms);
  CHECK(flushed.get().ok());
}

TEST_CASE("only the newest content is sent again", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0, 'a', 4).ok());
  CHECK(f.volume.zero({kBlock, kBlock}, false).ok());
  CHECK(f.write(2, 'b').ok());
  std::map<uint64_t, std::string> content;
  std::mutex mutex;
  f.server.close_idle(1);
  f.server.on_request([&](const http::Request& request) -> Result<http::Reply> {
    std::lock_guard<std::mutex> lock(mutex);
    for (const auto& part : request.parts)
      content[part.length].append(static_cast<const char*>(part.data), 1);
    return FakeServer::ok();
  });
  CHECK(f.volume.flush().ok());
  CHECK(f.count("zero 4096 bytes at offset 4096") == 2);
  CHECK(content[kBlock] == "aba");
}

TEST_CASE("what was flushed is not sent again", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  CHECK(f.volume.flush().ok());
  f.server.close_idle(1);
  CHECK(f.write(1).ok());
  CHECK(f.volume.flush().ok());
  CHECK(f.count(kWrite0) == 1);
}

TEST_CASE("a stable write that is newer is not overwritten by a replay", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  const std::vector<char> data(kBlock, 'b');
  CHECK(f.volume.write({0, kBlock}, data.data(), true).ok());
  f.server.close_idle(1);
  CHECK(f.write(1).ok());
  CHECK(f.volume.flush().ok());
  CHECK(f.count(kWrite0) == 2);
}

TEST_CASE("reads give what is acknowledged, also while the server has lost it", "[replay]") {
  Fixture f(1);
  CHECK(f.write(1, 'x').ok());
  f.server.on_request([](const http::Request& request) -> Result<http::Reply> {
    if (request.sink.empty()) return FakeServer::ok();
    memset(request.sink.data(), '-', request.sink.size());
    http::Reply reply = FakeServer::ok(206);
    reply.content_range = "bytes 0-12287/16777216";
    reply.sunk = request.sink.size();
    return reply;
  });
  std::string buffer(3 * kBlock, '?');
  CHECK(f.volume.read({0, buffer.size()}, buffer.data()).ok());
  CHECK(buffer == std::string(kBlock, '-') + std::string(kBlock, 'x') +
                      std::string(kBlock, '-'));
  const size_t sent = f.what().size();
  std::string block(kBlock, '?');
  CHECK(f.volume.read({kBlock, kBlock}, block.data()).ok());
  CHECK(block == std::string(kBlock, 'x'));
  CHECK(f.what().size() == sent);  // all of it was in the log
}

TEST_CASE("an outage is ridden out, with growing pauses", "[replay]") {
  Fixture f(1);
  f.fail("write", Status(Kind::kConnect, "refused"), 8);
  auto write = std::async(std::launch::async, [&] { return f.write(0); });
  for (size_t tries = 2; tries <= 8; ++tries) {
    f.server.await_sent(tries);
    f.clock.await_sleepers(1);
    f.clock.advance(6s);
  }
  CHECK(write.get().ok());
  CHECK(f.count(kWrite0) == 9);
}

TEST_CASE("Retry-After is honoured, up to a minute", "[replay]") {
  Fixture f(1);
  std::atomic<int> requests = 0;
  f.server.on_request([&](const http::Request&) -> Result<http::Reply> {
    http::Reply reply = FakeServer::ok(++requests == 1 ? 503 : 200);
    reply.retry_after = "120";
    return reply;
  });
  auto write = std::async(std::launch::async, [&] { return f.write(0); });
  f.server.await_sent(1);
  f.clock.await_sleepers(1);
  f.clock.advance(59s);
  f.clock.await_sleepers(1);
  CHECK(requests == 1);
  f.clock.advance(2s);
  CHECK(write.get().ok());
}

TEST_CASE("after the retry time the error latches and says what is lost", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  f.fail("write", Status(Kind::kConnect, "refused"), 1000000);
  auto flush = std::async(std::launch::async, [&] { return f.volume.flush(); });
  while (flush.wait_for(0s) != std::future_status::ready) {
    f.clock.advance(1s);
    std::this_thread::yield();
  }
  const Status status = flush.get();
  CHECK(status.text().find("gave up after ") != std::string::npos);
  CHECK(status.text().find(" seconds (retry-time=), with 4096 acknowledged bytes that could "
                           "not be sent again") != std::string::npos);
  CHECK(status.text().find("refused") != std::string::npos);
  CHECK(f.write(1).text() == status.text());
}

TEST_CASE("a ticket that is denied during a replay ends it at once", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  f.server.on_request([](const http::Request&) -> Result<http::Reply> {
    return FakeServer::ok(403);
  });
  CHECK(f.volume.flush().kind() == Kind::kDenied);
  CHECK(f.write(1).kind() == Kind::kDenied);
}

TEST_CASE("a ticket that is denied after a connection was lost is waited for", "[replay]") {
  for (const int status : {403, 404, 410}) {
    Fixture f(1, 60s, 20s);
    f.answer({0, status, status, status, status, 200});
    auto write = std::async(std::launch::async, [&] { return f.write(0); });
    f.pass_time_after(2, 5, 6s);
    CHECK(write.get().ok());
    CHECK(f.what() == Texts(6, kWrite0));
    CHECK(f.volume.flush().ok());
  }
}

TEST_CASE("what was acknowledged is sent again when the ticket is back", "[replay]") {
  Fixture f(1, 60s, 20s);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  f.answer({403, 403, 403, 200});
  auto flush = std::async(std::launch::async, [&] { return f.volume.flush(); });
  f.pass_time_after(3, 4, 6s);
  CHECK(flush.get().ok());
  CHECK(f.what() == Texts(5, kWrite0));
  CHECK(f.server.sent().back().target == "/images/t?flush=y");
}

TEST_CASE("a flush that is denied after a connection was lost is waited for, too", "[replay]") {
  Fixture f(1, 60s, 20s);
  f.answer({0, 200, 403, 403, 403, 200});
  CHECK(f.write(0).ok());
  auto flush = std::async(std::launch::async, [&] { return f.volume.flush(); });
  f.pass_time_after(5, 5, 6s);
  CHECK(flush.get().ok());
  CHECK(f.what() == Texts{kWrite0, kWrite0, "flush", kWrite0, kWrite0, kWrite0});
}

TEST_CASE("a read that is denied after a connection was lost is waited for, too", "[replay]") {
  Fixture f(1, 60s, 20s);
  f.server.on_request([sent = std::make_shared<std::atomic<int>>(0)](
                          const http::Request& request) -> Result<http::Reply> {
    const int n = ++*sent;
    if (n == 1) return kReset;
    if (n <= 3) return FakeServer::ok(403);
    http::Reply reply = FakeServer::ok(206);
    reply.content_range = "bytes 4096-8191/16777216";
    reply.sunk = request.sink.size();
    return reply;
  });
  std::string block(kBlock, '?');
  auto read = std::async(std::launch::async, [&] {
    return f.volume.read({kBlock, kBlock}, block.data());
  });
  f.pass_time_after(2, 3, 6s);
  CHECK(read.get().ok());
}

TEST_CASE("without a lost connection a ticket that is denied ends it at once", "[replay]") {
  Fixture f(1, 60s, 20s);
  CHECK(f.write(0).ok());
  f.answer({403});
  const Status status = f.write(1);
  CHECK(status.kind() == Kind::kDenied);
  CHECK(status.text().find("denied-wait") == std::string::npos);
  CHECK(f.what() == Texts{kWrite0, kWrite1});
  CHECK(f.write(2).kind() == Kind::kDenied);
  CHECK(f.what().size() == 2);
}

TEST_CASE("without denied-wait a ticket that is denied after an outage ends it at once",
          "[replay]") {
  Fixture f(1);
  f.answer({0, 403});
  const Status status = f.write(0);
  CHECK(status.kind() == Kind::kDenied);
  CHECK(status.text().find("denied-wait") == std::string::npos);
  CHECK(f.write(1).kind() == Kind::kDenied);
  CHECK(f.what() == Texts{kWrite0, kWrite0});
}

TEST_CASE("a ticket that is denied for longer than denied-wait ends it, and says so",
          "[replay]") {
  Fixture f(1, 60s, 20s);
  f.answer({0, 403});
  auto write = std::async(std::launch::async, [&] { return f.write(0); });
  f.pass_time_after(2, 5, 6s);
  CHECK(write.get().kind() == Kind::kDenied);
  CHECK(f.what().size() == 6);
  CHECK(f.write(1).text() ==
        "disk: HTTP status 403: the ticket expired, was cancelled or does not allow this "
        "(waited for 24 seconds, denied-wait=)");
  CHECK(f.what().size() == 6);
}

TEST_CASE("each outage has its own wait for the ticket", "[replay]") {
  Fixture f(1, 60s, 20s);
  f.answer({0, 403, -1, -1, -1, -1, 403, 403, 200});
  auto write = std::async(std::launch::async, [&] { return f.write(0); });
  f.pass_time_after(2, 8, 6s);
  CHECK(write.get().ok());
  CHECK(f.what() == Texts(9, kWrite0));
}

TEST_CASE("connections that are lost while the ticket is denied don't make the wait longer",
          "[replay]") {
  Fixture f(1, 60s, 20s);
  f.answer({0, 403, 0, 403, 0, 403});
  auto write = std::async(std::launch::async, [&] { return f.write(0); });
  f.pass_time_after(2, 5, 6s);
  CHECK(write.get().kind() == Kind::kDenied);
}

TEST_CASE("a server that could not be reached may have forgotten the ticket, too",
          "[replay]") {
  Fixture f(1, 60s, 20s);
  f.answer({-1, -1, 403, 403, 200});
  auto write = std::async(std::launch::async, [&] { return f.write(0); });
  f.pass_time_after(2, 4, 6s);
  CHECK(write.get().ok());
}

TEST_CASE("a long time after an outage a ticket that is denied ends it at once", "[replay]") {
  Fixture f(1, 60s, 20s);
  f.answer({0, 200});
  CHECK(f.write(0).ok());
  f.clock.advance(321s);
  f.answer({403});
  CHECK(f.write(1).kind() == Kind::kDenied);
}

TEST_CASE("no late copy comes of what was denied", "[replay]") {
  Fixture f(1, 60s, 20s);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  f.answer({403, 403, 200});
  auto flush = std::async(std::launch::async, [&] { return f.volume.flush(); });
  f.pass_time_after(3, 3, 6s);
  CHECK(flush.get().ok());
  CHECK_FALSE(f.volume.late_copies_may_come().has_value());
}

TEST_CASE("a newer write to a range in doubt waits until no late copy can come", "[replay]") {
  Fixture f(1);
  f.fail("write", kReset);
  CHECK(f.write(0).ok());  // its first copy may yet arrive
  CHECK(f.write(1).ok());  // elsewhere
  auto newer = std::async(std::launch::async, [&] { return f.write(0, 'b'); });
  f.clock.await_sleepers(1);
  CHECK(f.count(kWrite0) == 2);
  f.clock.advance(61s);
  CHECK(newer.get().ok());
  CHECK(f.count(kWrite0) == 3);
}

TEST_CASE("a full log is flushed in the background, and writers wait only for room",
          "[replay]") {
  Fixture f(2);
  for (uint64_t block = 0; block < 1000; ++block) REQUIRE(f.write(block).ok());
  CHECK(f.count("flush") >= 5);
  CHECK(f.volume.flush().ok());
}

TEST_CASE("a change that is too large for the log is sent in pieces", "[replay]") {
  Fixture f(1);
  CHECK(f.write(0, 'a', 200).ok());
  CHECK(f.count("write 262144 bytes at offset 0") == 1);
  CHECK(f.volume.flush().ok());
  uint64_t bytes = 0;
  for (const auto& sent : f.server.sent()) bytes += sent.bytes;
  CHECK(bytes == 200 * kBlock);
}

TEST_CASE("a flush does not wait for what a stable write has made good", "[replay]") {
  Fixture f(4);
  f.server.open_first();
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, bool> held;           // by what; true: fails when it is let go
  std::map<std::string, size_t> met;
  f.server.on_request([&](const http::Request& request) -> Result<http::Reply> {
    const bool stable = request.target.find("flush=y") != std::string::npos;
    const std::string what = request.what + (stable ? " stable" : "");
    std::unique_lock<std::mutex> lock(mutex);
    const auto found = held.find(what);
    const bool fails = found != held.end() && found->second;
    ++met[what];
    changed.notify_all();
    changed.wait(lock, [&] { return !held.contains(what); });
    if (fails) return kReset;
    return FakeServer::ok();
  });
  const auto hold = [&](const std::string& what, bool fails) {
    std::lock_guard<std::mutex> lock(mutex);
    held[what] = fails;
  };
  const auto await = [&](const std::string& what) {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return met[what] > 0; });
  };
  const auto let_go = [&](const std::string& what) {
    std::lock_guard<std::mutex> lock(mutex);
    held.erase(what);
    changed.notify_all();
  };
  const std::vector<char> data(64 * kBlock, 'x');
  const auto write_stable = [&](uint64_t block, uint64_t count) {
    return f.volume.write({block * kBlock, count * kBlock}, data.data(), true);
  };
  const std::string kWrite60 = "write 4096 bytes at offset 245760";
  const std::string kStable0 = std::string(kWrite0) + " stable";

  // The recovery thread hangs in a flush, of what will be hidden.
  hold("flush", true);
  CHECK(f.write(100, 'y', 64).ok());
  await("flush");
  // The connection with block 0 on it is busy, and a stable write to block 0 under way.
  CHECK(f.write(0).ok());
  hold(kWrite60, true);
  auto other = std::async(std::launch::async, [&] { return f.write(60); });
  await(kWrite60);
  hold(kStable0, false);
  auto stable = std::async(std::launch::async, [&] { return write_stable(0, 1); });
  await(kStable0);
  CHECK(write_stable(100, 64).ok());
  let_go(kWrite60);  // that connection is lost: block 0 is an orphan
  CHECK(other.get().ok());
  auto flush = std::async(std::launch::async, [&] { return f.volume.flush(); });
  // If it does not get as far as waiting for the orphan it has less to prove.
  std::this_thread::sleep_for(20ms);
  let_go(kStable0);
  CHECK(stable.get().ok());
  let_go("flush");
  const bool ended = flush.wait_for(10s) == std::future_status::ready;
  CHECK(ended);
  if (!ended) CHECK(f.write(70).ok());  // wakes it up
  CHECK(flush.get().ok());
}

TEST_CASE("many threads, and connections that are lost all the time: no error, no hang",
          "[replay]") {
  Fixture f(3, 1s);
  std::atomic<uint64_t> count = 0;
  f.server.on_request([&](const http::Request&) -> Result<http::Reply> {
    if (++count % 7 == 0) return kReset;
    return FakeServer::ok();
  });
  std::atomic<bool> done = false;
  // Pauses, and ranges in doubt, end when time passes.
  std::thread time([&] {
    while (!done) {
      // Faster than real time, but not so fast that all is given up.
      f.clock.advance(5ms);
      std::this_thread::sleep_for(50us);
    }
  });
  std::vector<std::thread> threads;
  std::atomic<uint64_t> failed = 0;
  for (uint64_t t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 200; ++i) {
        if (!f.write((t * 37 + i * 11) % 256, 'a', 1 + i % 4).ok()) ++failed;
        if (i % 50 == 0 && !f.volume.flush().ok()) ++failed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(f.volume.flush().ok());
  done = true;
  time.join();
  CHECK(failed == 0);
}
