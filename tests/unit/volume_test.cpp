// SPDX-License-Identifier: BSD-3-Clause

#include "volume/volume.h"

#include <future>
#include <thread>

#include "catch.h"
#include "disk.h"
#include "fakes.h"
#include "pool/keeper.h"

using namespace std::chrono_literals;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::pool::Pool;
using upload::target::Durability;
using upload::testing::FakeClock;
using upload::testing::FakeServer;
using upload::testing::kBlock;
using upload::volume::Volume;
namespace http = upload::http;
namespace target = upload::target;

namespace {

const char kData[64 * kBlock] = {};

struct Fixture {
  explicit Fixture(unsigned connections = 2, Durability durability = Durability::kOnFlush,
                   bool can_zero = true)
      : pool({connections, 10s, 60s}, server.factory(), clock),
        volume(options(durability, can_zero), pool, clock, stats) {}
  ~Fixture() {
    upload::testing::end(volume, pool);
  }

  static upload::volume::VolumeOptions options(Durability durability, bool can_zero) {
    upload::volume::VolumeOptions options = upload::testing::disk_options(1024);
    options.capabilities.durability = durability;
    options.capabilities.can_zero = can_zero;
    options.capabilities.can_extents = true;
    options.limits.zero_is_data = !can_zero;
    return options;
  }

  Status write(uint64_t block, uint64_t count = 1, bool fua = false) {
    return volume.write({block * kBlock, count * kBlock}, kData, fua);
  }
  std::future<Status> write_async(uint64_t block, uint64_t count = 1) {
    return std::async(std::launch::async, [this, block, count] { return write(block, count); });
  }
  std::vector<std::string> what() {
    std::vector<std::string> list;
    for (const auto& sent : server.sent()) list.push_back(sent.what);
    return list;
  }
  // From now on requests of this kind fail.
  void fail(const std::string& prefix, const Status& status) {
    server.on_request([=](const http::Request& request) -> Result<http::Reply> {
      if (request.what.compare(0, prefix.size(), prefix) == 0) return status;
      return FakeServer::ok();
    });
  }
  void answer(const std::string& prefix, int code) {
    server.on_request([=](const http::Request& request) -> Result<http::Reply> {
      return FakeServer::ok(request.what.compare(0, prefix.size(), prefix) == 0 ? code : 200);
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

}  // namespace

TEST_CASE("a write goes out at once when a connection is free", "[volume]") {
  Fixture f;
  CHECK(f.write(0).ok());
  CHECK(f.write(1).ok());
  CHECK(f.what() == Texts{"write 4096 bytes at offset 0", "write 4096 bytes at offset 4096"});
}

TEST_CASE("writes that wait for a busy connection go together in one request", "[volume]") {
  Fixture f(1);
  f.server.hold();
  auto first = f.write_async(100);
  f.server.await_sent(1);
  std::vector<std::future<Status>> rest;
  for (uint64_t block = 0; block < 8; ++block) {
    rest.push_back(f.write_async(block));
    f.clock.await_sleepers(block + 1);
  }
  f.server.release_all();
  CHECK(first.get().ok());
  for (auto& result : rest) CHECK(result.get().ok());
  CHECK(f.what() == Texts{"write 4096 bytes at offset 409600", "write 32768 bytes at offset 0"});
}

TEST_CASE("a flush reaches the dirty connections only, and each once", "[volume]") {
  Fixture f(4);
  CHECK(f.volume.flush().ok());
  CHECK(f.what().empty());
  CHECK(f.write(0).ok());
  CHECK(f.volume.flush().ok());
  CHECK(f.volume.flush().ok());
  CHECK(f.what() == Texts{"write 4096 bytes at offset 0", "flush"});
}

TEST_CASE("a FUA write leaves nothing to flush", "[volume]") {
  Fixture f;
  CHECK(f.write(0, 1, true).ok());
  CHECK(f.server.sent()[0].target == "/images/t?flush=y");
  CHECK(f.volume.flush().ok());
  CHECK(f.what().size() == 1);
}

TEST_CASE("a FUA write does not make earlier writes stable", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  CHECK(f.write(1, 1, true).ok());
  CHECK(f.volume.flush().ok());
  CHECK(f.what().back() == "flush");
}

TEST_CASE("where replies mean stable every write asks for it", "[volume]") {
  Fixture f(1, Durability::kOnReply);
  CHECK(f.write(0).ok());
  CHECK(f.server.sent()[0].target == "/images/t?flush=y");
  f.server.close_idle(1);
  CHECK(f.write(1).ok());  // nothing was lost with it
}

TEST_CASE("where replies mean stable a flush sends nothing and succeeds", "[volume]") {
  Fixture f(2, Durability::kOnReply);
  CHECK(f.volume.flush().ok());
  CHECK(f.write(0).ok());
  CHECK(f.volume.zero({8 * kBlock, 32 * kBlock}, false).ok());
  CHECK(f.volume.flush().ok());
  CHECK(f.what() == Texts{"write 4096 bytes at offset 0", "zero 131072 bytes at offset 32768"});
}

TEST_CASE("where replies mean stable a flush tells of the latched error", "[volume]") {
  Fixture f(1, Durability::kOnReply);
  f.answer("write", 403);
  const Status write = f.write(0);
  CHECK(write.kind() == Kind::kDenied);
  CHECK(f.volume.flush().kind() == Kind::kDenied);
}

TEST_CASE("without zero at the server zeroes are written out", "[volume]") {
  Fixture f(1, Durability::kOnFlush, false);
  CHECK(f.volume.zero({0, 32 * kBlock}, false).ok());
  CHECK(f.server.sent()[0].bytes == 32 * kBlock);
  CHECK(f.what() == Texts{"write 131072 bytes at offset 0"});
}

TEST_CASE("a request that fails on a clean connection fails alone", "[volume]") {
  Fixture f;
  f.fail("write", kReset);
  const Status status = f.write(0);
  CHECK(status.text() == "disk: could not write 4096 bytes at offset 0: reset");
  f.server.on_request(nullptr);
  CHECK(f.write(1).ok());
  CHECK(f.volume.flush().ok());
}

TEST_CASE("where a change failed with unknown fate, no later change is sent", "[volume]") {
  Fixture f;
  f.fail("write", kReset);
  CHECK_FALSE(f.write(10, 4).ok());
  f.server.on_request(nullptr);
  const size_t sent = f.what().size();
  CHECK(f.write(13).text().find("may still be applying it") != std::string::npos);
  CHECK_FALSE(f.volume.zero({8 * kBlock, 3 * kBlock}, true).ok());
  CHECK(f.what().size() == sent);
  CHECK(f.write(14).ok());
  CHECK(f.volume.flush().ok());
}

TEST_CASE("where a change was refused or could not be sent, a later one is welcome",
          "[volume]") {
  Fixture f(1);
  f.answer("write", 416);
  CHECK_FALSE(f.write(0).ok());
  f.fail("write", Status(Kind::kConnect, "refused"));
  f.server.close_idle(1);
  CHECK_FALSE(f.write(0).ok());
  f.server.on_request(nullptr);
  CHECK(f.write(0).ok());
}

TEST_CASE("a change that got 503 may come late, until the time-out after the next answer",
          "[volume]") {
  for (const int status : {408, 429, 503}) {
    Fixture f(1);
    f.answer("write", status);
    CHECK_FALSE(f.write(0).ok());
    f.server.on_request(nullptr);
    f.clock.advance(3600s);
    // Nobody knows yet whether the server is alive.
    CHECK(f.write(0).text().find("may still be applying it") != std::string::npos);
    CHECK(f.write(5).ok());
    f.clock.advance(59s);
    CHECK(f.write(0).text().find("may still be applying it") != std::string::npos);
    f.clock.advance(1s);
    CHECK(f.write(0).ok());
  }
}

TEST_CASE("a large zero goes in pieces", "[volume]") {
  Fixture f;
  CHECK(f.volume.zero({0, 150 * kBlock}, false).ok());
  CHECK(f.what() == Texts{"zero 262144 bytes at offset 0", "zero 262144 bytes at offset 262144",
                          "zero 90112 bytes at offset 524288"});
}

TEST_CASE("a dirty connection that is lost latches an error", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.fail("write", kReset);
  CHECK_FALSE(f.write(1).ok());
  f.server.on_request(nullptr);
  const size_t sent = f.what().size();
  const Status flush = f.volume.flush();
  CHECK(flush.text() == "disk: a connection with unflushed changes was lost: reset");
  CHECK(f.write(2).text() == flush.text());
  CHECK(f.volume.zero({0, kBlock}, true).text() == flush.text());
  char buffer[512];
  CHECK(f.volume.read({0, 512}, buffer).text() == flush.text());
  CHECK(f.volume.extents().status().text() == flush.text());
  CHECK(f.what().size() == sent);  // none of these was sent
}

TEST_CASE("a dirty connection that was closed while idle: the next write fails unsent",
          "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  CHECK_FALSE(f.write(1).ok());
  CHECK_FALSE(f.volume.flush().ok());
  CHECK(f.what().size() == 1);
}

TEST_CASE("a dirty connection that was closed while idle: a flush fails", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  f.fail("flush", kReset);
  CHECK_FALSE(f.volume.flush().ok());
  f.server.on_request(nullptr);
  CHECK_FALSE(f.volume.flush().ok());
}

TEST_CASE("a clean connection that was closed while idle is replaced silently", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  CHECK(f.volume.flush().ok());
  f.server.close_idle(1);
  CHECK(f.write(1).ok());
  CHECK(f.volume.flush().ok());
  CHECK(f.server.connections_made() == 2);
}

TEST_CASE("a flush that answers an error is never called good later", "[volume]") {
  for (const int code : {400, 403, 500, 503}) {
    Fixture f(1);
    CHECK(f.write(0).ok());
    f.answer("flush", code);
    const Status first = f.volume.flush();
    CHECK_FALSE(first.ok());
    f.server.on_request(nullptr);
    CHECK(f.volume.flush().text() == first.text());
    CHECK(f.server.connections_alive() == 0);
  }
}

TEST_CASE("what each status means for later requests", "[volume]") {
  struct Row {
    int code;
    bool dirty;
    bool latches;
  };
  const Row rows[] = {{400, false, false}, {400, true, false},  {401, true, false},
                      {416, true, false},  {429, true, false},  {503, true, false},
                      {408, true, false},  {403, false, true},  {404, false, true},
                      {410, false, true},  {500, false, true},  {500, true, true},
                      {502, false, false}, {502, true, true},   {504, true, true},
                      {204, false, false}, {204, true, true},   {507, true, false}};
  for (const Row& row : rows) {
    INFO(row.code << (row.dirty ? " dirty" : " clean"));
    Fixture f(1);
    if (row.dirty) REQUIRE(f.write(0).ok());
    f.answer("write", row.code);
    CHECK_FALSE(f.write(1).ok());
    f.server.on_request(nullptr);
    CHECK(f.write(2).ok() == !row.latches);
    CHECK(f.volume.flush().ok() == !row.latches);
  }
}

TEST_CASE("a write whose reply closes the connection is not acknowledged", "[volume]") {
  Fixture f(1);
  f.server.on_request([](const http::Request&) -> Result<http::Reply> {
    http::Reply reply = FakeServer::ok();
    reply.last = true;
    return reply;
  });
  CHECK_FALSE(f.write(0).ok());
  CHECK(f.write(1, 1, true).ok());  // stable with its reply
  f.server.on_request(nullptr);
  CHECK(f.write(2).ok());  // nothing acknowledged was lost
}

TEST_CASE("an overlapping write waits for the one under way, others do not", "[volume]") {
  Fixture f(4);
  CHECK(f.write(500).ok());
  f.server.hold();
  auto first = f.write_async(0, 2);
  f.server.await_sent(2);
  auto second = f.write_async(1, 2);
  f.clock.await_sleepers(1);
  auto elsewhere = f.write_async(100);
  f.server.await_sent(3);
  CHECK(f.what().back() == "write 4096 bytes at offset 409600");
  f.server.release(3);
  CHECK(first.get().ok());
  CHECK(second.get().ok());
  CHECK(elsewhere.get().ok());
}

TEST_CASE("the keeper's flush makes a connection clean", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  {
    upload::pool::Keeper keeper(f.pool, 30s, f.clock);
    f.clock.await_sleepers(1);
    f.clock.advance(30s);
    f.clock.await_sleepers(1);
  }
  CHECK(f.what() == Texts{"write 4096 bytes at offset 0", "flush"});
  CHECK(f.volume.flush().ok());
  CHECK(f.what().size() == 2);
}

TEST_CASE("a keeper's failure is told by the next request and by flush, also when clean",
          "[volume]") {
  Fixture f(1);
  CHECK(f.write(0, 1, true).ok());
  f.answer("flush", 503);
  {
    upload::pool::Keeper keeper(f.pool, 30s, f.clock);
    f.clock.await_sleepers(1);
    f.clock.advance(30s);
    f.clock.await_sleepers(1);
  }
  f.server.on_request(nullptr);
  const Status write = f.write(1);
  CHECK(write.text().find("could not keep the connection alive") != std::string::npos);
  CHECK(f.volume.flush().text() == write.text());
}

TEST_CASE("a server without flush is kept alive by OPTIONS", "[volume]") {
  Fixture f(1, Durability::kOnReply);
  f.server.on_request([](const http::Request&) -> Result<http::Reply> {
    http::Reply reply = FakeServer::ok();
    reply.body = R"({"features":[]})";
    return reply;
  });
  CHECK(f.write(0).ok());
  upload::pool::Keeper keeper(f.pool, 30s, f.clock);
  f.clock.await_sleepers(1);
  f.clock.advance(30s);
  f.clock.await_sleepers(1);
  CHECK(f.what().back() == "OPTIONS");
  CHECK(f.write(1).ok());
}

TEST_CASE("a change that waits too long says for what", "[volume]") {
  Fixture f(1);
  CHECK(f.write(0).ok());
  f.server.hold();
  auto stuck = f.write_async(0);
  f.server.await_sent(2);
  auto waiting = f.write_async(50);
  auto overlapping = f.write_async(0);
  f.clock.await_sleepers(2);
  f.clock.advance(71s);
  f.clock.await_sleepers(2);  // for a last look
  f.clock.advance(1s);
  CHECK(waiting.get().text().find("no connection became free") != std::string::npos);
  CHECK(overlapping.get().kind() == Kind::kPoolWait);
  f.server.release_all();
  CHECK(stuck.get().ok());
  CHECK(f.write(3).ok());
}

TEST_CASE("extents are cached until the first change", "[volume]") {
  Fixture f(1);
  f.server.on_request([](const http::Request& request) -> Result<http::Reply> {
    http::Reply reply = FakeServer::ok();
    if (request.what == "extents")
      reply.body = R"([{"start":0,"length":4194304,"zero":true,"hole":true}])";
    return reply;
  });
  REQUIRE(f.volume.extents().ok());
  REQUIRE(f.volume.extents().ok());
  CHECK(f.what().size() == 1);
  CHECK(f.write(0).ok());
  REQUIRE(f.volume.extents().ok());
  CHECK(f.what() == Texts{"extents", "write 4096 bytes at offset 0", "extents"});
}

TEST_CASE("extents that were asked for during a change are not kept", "[volume]") {
  Fixture f(2);
  CHECK(f.write(1).ok());
  f.server.on_request([](const http::Request& request) -> Result<http::Reply> {
    http::Reply reply = FakeServer::ok();
    if (request.what == "extents")
      reply.body = R"([{"start":0,"length":4194304,"zero":true,"hole":true}])";
    return reply;
  });
  f.server.hold();
  auto write = f.write_async(0);
  f.server.await_sent(2);
  auto early = std::async(std::launch::async, [&] { return f.volume.extents().ok(); });
  f.server.await_sent(3);
  f.server.release_all();
  CHECK(early.get());
  CHECK(write.get().ok());
  CHECK(f.volume.extents().ok());
  CHECK(f.what().size() == 4);  // asked again
}

TEST_CASE("extents that end too early are an error", "[volume]") {
  Fixture f(1);
  f.server.on_request([](const http::Request&) -> Result<http::Reply> {
    http::Reply reply = FakeServer::ok();
    reply.body = R"([{"start":0,"length":4096,"zero":true}])";
    return reply;
  });
  CHECK(f.volume.extents().status().kind() == Kind::kMalformed);
}

TEST_CASE("many threads write, flush and lose connections without a hang", "[volume]") {
  Fixture f(3);
  std::atomic<uint64_t> count = 0;
  f.server.on_request([&](const http::Request&) -> Result<http::Reply> {
    if (++count % 97 == 0) return FakeServer::ok(503);
    return FakeServer::ok();
  });
  std::vector<std::thread> threads;
  std::atomic<uint64_t> good = 0;
  for (uint64_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 400; ++i) {
        if (f.write((t * 37 + i * 11) % 256, 1 + i % 4, i % 16 == 0).ok()) ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good > 0);
}
