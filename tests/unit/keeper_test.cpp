// SPDX-License-Identifier: BSD-3-Clause
//
// When the keeper makes a request on an idle connection, and when it must not.

#include "upstream/keeper.h"

#include "catch.h"
#include "fakes.h"

using namespace std::chrono_literals;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::testing::FakeClock;
using upload::testing::FakeServer;
using upload::upstream::Keeper;
using upload::upstream::Lease;
using upload::upstream::Pool;
using upload::upstream::PoolClient;
namespace http = upload::http;

namespace {

// Sends a request to keep alive, as a volume does.
struct Client final : PoolClient {
  void connection_lost(upload::ConnectionId, const Status&) override { ++lost; }
  void keep_alive(Lease& lease) override {
    http::Request request;
    request.what = "keep-alive";
    (void)lease.perform(request);
  }
  std::atomic<int> lost = 0;
};

struct Fixture {
  explicit Fixture(unsigned connections = 2)
      : pool({connections, 10s, 60s}, server.factory(), clock) {
    pool.add_client(client);
  }
  ~Fixture() {
    if (keeper) keeper->request_stop();
    pool.close();
    keeper.reset();
  }
  void start() {
    keeper = std::make_unique<Keeper>(pool, 30s, clock);
    clock.await_sleepers(1);
  }
  void pass(upload::Duration time) {
    clock.advance(time);
    clock.await_sleepers(1);
  }
  std::vector<upload::ConnectionId> kept() {
    std::vector<upload::ConnectionId> ids;
    for (const auto& sent : server.sent())
      if (sent.what == "keep-alive") ids.push_back(sent.connection);
    return ids;
  }
  upload::ConnectionId use() {
    Lease lease = std::move(pool.lease().value());
    (void)lease.perform({});
    return lease.id();
  }

  FakeClock clock;
  FakeServer server;
  Client client;
  Pool pool;
  std::unique_ptr<Keeper> keeper;
};

using Ids = std::vector<upload::ConnectionId>;

}  // namespace

TEST_CASE("an idle connection is kept alive before the idle time-out is over", "[keeper]") {
  Fixture f;
  const upload::ConnectionId id = f.use();
  f.start();
  f.pass(26s);
  CHECK(f.kept().empty());
  f.pass(4s);
  CHECK(f.kept() == Ids{id});
  f.pass(26s);
  CHECK(f.kept().size() == 1);
  f.pass(4s);
  CHECK(f.kept() == Ids{id, id});
}

TEST_CASE("a connection in use is left alone, and due again only when it has been idle",
          "[keeper]") {
  Fixture f;
  f.start();
  f.use();
  f.pass(20s);
  f.use();
  f.pass(20s);
  CHECK(f.kept().empty());
  f.pass(10s);
  CHECK(f.kept().size() == 1);
}

TEST_CASE("all idle connections are kept alive, the longest idle one first", "[keeper]") {
  Fixture f(3);
  Ids ids;
  {
    Lease one = std::move(f.pool.lease().value());
    (void)one.perform({});
    Lease two = std::move(f.pool.lease().value());
    (void)two.perform({});
    ids = {two.id(), one.id()};
    two.give_back();
    f.clock.advance(1s);
  }
  f.start();
  f.pass(31s);
  CHECK(f.kept() == ids);
}

TEST_CASE("the others stay free while the keeper works on one", "[keeper]") {
  Fixture f(2);
  {
    Lease one = std::move(f.pool.lease().value());
    (void)one.perform({});
    Lease two = std::move(f.pool.lease().value());
    (void)two.perform({});
  }
  f.start();
  f.server.hold();
  f.clock.advance(31s);
  f.server.await_sent(3);  // the keeper is at work
  const Ids kept = f.kept();
  REQUIRE(kept.size() == 1);
  Result<Lease> lease = f.pool.lease();
  REQUIRE(lease.ok());
  CHECK(lease.value().id() != kept[0]);
  lease.value().give_back();
  f.server.release_all();
  f.clock.await_sleepers(1);
}

TEST_CASE("with no connection at all one is opened, for the ticket's sake", "[keeper]") {
  Fixture f;
  f.start();
  CHECK(f.server.connections_made() == 0);
  f.pass(31s);
  CHECK(f.kept().size() == 1);
  CHECK(f.server.connections_made() == 1);
}

TEST_CASE("a connection that the server has closed is told as lost, not used", "[keeper]") {
  Fixture f;
  const upload::ConnectionId id = f.use();
  f.start();
  f.server.close_idle(id);
  f.pass(31s);
  CHECK(f.client.lost == 1);
  CHECK(f.kept().empty());
}

TEST_CASE("a keep-alive that fails loses the connection", "[keeper]") {
  Fixture f;
  f.use();
  f.start();
  f.server.on_request(
      [](const http::Request&) -> Result<http::Reply> { return Status(Kind::kLost, "reset"); });
  f.pass(31s);
  CHECK(f.client.lost == 1);
}

TEST_CASE("the keeper stops at once, asleep or at work", "[keeper]") {
  {
    Fixture f;
    f.use();
    f.start();
    f.keeper->request_stop();
    f.keeper->join();
  }
  Fixture f;
  f.use();
  f.start();
  f.server.hold();
  f.clock.advance(31s);
  f.server.await_sent(2);
  f.keeper->request_stop();
  f.pool.close();  // aborts the keeper's request
  f.keeper->join();
}
