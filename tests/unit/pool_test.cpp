// SPDX-License-Identifier: BSD-3-Clause
//
// Who gets a connection, when one is opened, and who is told that one is lost.

#include "upstream/pool.h"

#include <future>
#include <thread>

#include "catch.h"
#include "fakes.h"

using namespace std::chrono_literals;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::testing::FakeClock;
using upload::testing::FakeServer;
using upload::upstream::Lease;
using upload::upstream::Pool;
using upload::upstream::PoolClient;
using upload::upstream::PoolOptions;
using upload::upstream::Share;
namespace http = upload::http;

namespace {

struct Client final : PoolClient {
  void connection_lost(upload::ConnectionId id, const Status& why) override {
    std::lock_guard<std::mutex> lock(mutex);
    lost.push_back(id);
    reasons.push_back(why.text());
  }
  bool is_dirty(upload::ConnectionId) const override { return false; }
  upload::TimePoint ticket_used() const override { return {}; }
  void keep_alive(Lease&) override {}

  std::mutex mutex;
  std::vector<upload::ConnectionId> lost;
  std::vector<std::string> reasons;
};

struct Fixture {
  explicit Fixture(unsigned connections = 2)
      : pool({connections, 10s, 60s}, server.factory(), clock) {
    share.set_client(client);
  }
  ~Fixture() {
    share.remove_client();
    pool.close();
  }

  // A lease that has been opened by a request.
  Lease open() {
    Lease lease = std::move(share.lease().value());
    REQUIRE(lease.perform({}).ok());
    return lease;
  }

  FakeClock clock;
  FakeServer server;
  Client client;
  Pool pool;
  Share share{pool};
};

}  // namespace

TEST_CASE("a lease is given back by its destructor and then used again", "[pool]") {
  Fixture f;
  upload::ConnectionId first = 0;
  {
    Lease lease = f.open();
    first = lease.id();
  }
  Lease again = std::move(f.share.lease().value());
  CHECK(again.id() == first);
  CHECK(f.server.connections_made() == 1);
}

TEST_CASE("the pool never has more connections than its limit", "[pool]") {
  Fixture f(2);
  Lease one = f.open();
  std::optional<Lease> two = f.open();
  CHECK(one.id() != two->id());
  auto third = std::async(std::launch::async, [&] { return f.share.lease().value().id(); });
  f.clock.await_sleepers(1);
  const upload::ConnectionId id = two->id();
  two.reset();
  CHECK(third.get() == id);
  CHECK(f.server.connections_made() == 2);
}

TEST_CASE("connections are opened one after another", "[pool]") {
  Fixture f(4);
  Lease opening = std::move(f.share.lease().value());  // unopened
  auto second = std::async(std::launch::async, [&] { return f.share.lease().value().id(); });
  f.clock.await_sleepers(1);
  CHECK(f.server.connections_made() == 1);
  REQUIRE(opening.perform({}).ok());  // now it is open
  CHECK(second.get() != opening.id());
}

TEST_CASE("whoever waits first is served first", "[pool]") {
  Fixture f(1);
  std::optional<Lease> lease = f.open();
  std::mutex mutex;
  std::vector<int> order;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      Lease mine = std::move(f.share.lease().value());
      std::lock_guard<std::mutex> lock(mutex);
      order.push_back(i);
    });
    f.clock.await_sleepers(static_cast<size_t>(i) + 1);
  }
  lease.reset();
  for (std::thread& thread : threads) thread.join();
  CHECK(order == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("a certain connection can be waited for, and gets lost under the wait", "[pool]") {
  Fixture f(2);
  std::optional<Lease> lease = f.open();
  const upload::ConnectionId id = lease->id();
  auto same = std::async(std::launch::async, [&] { return f.share.lease(id).value().id(); });
  f.clock.await_sleepers(1);
  lease.reset();
  CHECK(same.get() == id);

  Lease taken = std::move(f.share.lease(id).value());
  auto gone = std::async(std::launch::async, [&] { return f.share.lease(id).status(); });
  f.clock.await_sleepers(1);
  taken.retire({Kind::kLost, "torn"});
  taken.give_back();
  const Status status = gone.get();
  CHECK(status.kind() == Kind::kLost);
  CHECK(status.text() == "torn");
  CHECK(f.share.lease(id).status().kind() == Kind::kLost);
}

TEST_CASE("a failed request retires the connection and tells the clients", "[pool]") {
  Fixture f;
  Lease lease = f.open();
  const upload::ConnectionId id = lease.id();
  f.server.on_request([](const http::Request&) -> Result<http::Reply> {
    return Status(Kind::kLost, "reset by peer");
  });
  CHECK_FALSE(lease.perform({}).ok());
  CHECK(f.client.lost.empty());
  lease.give_back();
  CHECK(f.client.lost == std::vector<upload::ConnectionId>{id});
  CHECK(f.client.reasons == std::vector<std::string>{"reset by peer"});
  CHECK(f.server.connections_alive() == 0);
  f.server.on_request(nullptr);
  CHECK(f.open().id() != id);
}

TEST_CASE("the last reply of a connection retires it", "[pool]") {
  Fixture f;
  Lease lease = f.open();
  f.server.on_request([](const http::Request&) -> Result<http::Reply> {
    http::Reply reply = FakeServer::ok();
    reply.last = true;
    return reply;
  });
  CHECK(lease.perform({}).ok());
  CHECK_FALSE(lease.retired().ok());
}

TEST_CASE("a connection of which the last request is left does not count", "[pool]") {
  for (const bool overlap : {false, true}) {
    FakeClock clock;
    FakeServer server;
    int requests = 0;
    server.on_request([&](const http::Request&) -> Result<http::Reply> {
      http::Reply reply = FakeServer::ok();
      reply.last = ++requests % 20 == 0;
      return reply;
    });
    Pool pool({1, 10s, 60s, overlap}, server.factory(), clock);
    {
      Share share(pool);
      // What a connection carries is learned from the first.
      for (int i = 0; i < 20 + 18; ++i) REQUIRE(share.lease().value().perform({}).ok());
      CHECK(server.connections_made() == 2);
      Lease second = std::move(share.lease().value());
      REQUIRE(second.perform({}).ok());  // the last but one
      // Now another may be opened beside it.
      struct Waiter final : upload::upstream::LeaseWaiter {
        void granted(Result<Lease> lease) override { given = lease.ok(); }
        bool given = false;
      } waiter;
      auto lease = share.lease_or_wait(waiter);
      CHECK(lease.has_value() == overlap);
      if (lease) CHECK(lease->value().id() != second.id());
      lease.reset();
      second.give_back();
      CHECK(waiter.given == !overlap);
    }
    pool.close();
  }
}

TEST_CASE("a connection that was closed while idle is replaced, and its loss told", "[pool]") {
  Fixture f;
  const upload::ConnectionId id = f.open().id();
  f.server.close_idle(id);
  Lease lease = std::move(f.share.lease().value());
  CHECK(lease.id() == id);
  lease.replace_if_closed();
  CHECK(lease.id() != id);
  CHECK(f.client.lost == std::vector<upload::ConnectionId>{id});
  CHECK(lease.perform({}).ok());
}

TEST_CASE("when the server can't be reached, all who wait learn it at once", "[pool]") {
  Fixture f(4);
  f.server.on_request([](const http::Request&) -> Result<http::Reply> {
    return Status(Kind::kConnect, "refused");
  });
  Lease opening = std::move(f.share.lease().value());
  auto waiting = std::async(std::launch::async, [&] { return f.share.lease().status(); });
  f.clock.await_sleepers(1);
  CHECK(opening.perform({}).status().kind() == Kind::kConnect);
  opening.give_back();
  CHECK(waiting.get().text() == "refused");
}

TEST_CASE("a wait ends when nothing has moved for connect-timeout and timeout", "[pool]") {
  Fixture f(1);
  Lease held = f.open();
  auto waiting = std::async(std::launch::async, [&] { return f.share.lease().status(); });
  const auto pass_69_seconds = [&] {
    for (int i = 0; i < 69; ++i) {
      f.clock.await_sleepers(1);
      f.clock.advance(1s);
    }
    f.clock.await_sleepers(1);
  };
  pass_69_seconds();
  CHECK(held.perform({}).ok());  // progress: the wait begins anew
  pass_69_seconds();
  f.clock.advance(1s);
  f.clock.await_sleepers(1);  // for a last look
  f.clock.advance(1s);
  const Status status = waiting.get();
  CHECK(status.kind() == Kind::kPoolWait);
  CHECK(status.text() ==
        "no connection became free: 1 connections of at most 1, 0 idle, 1 in use, 0 waiting");
}

TEST_CASE("who wakes up much too late, after a stop of the process, waits for another round",
          "[pool]") {
  Fixture f(1);
  Lease held = f.open();
  auto waiting = std::async(std::launch::async, [&] { return f.share.lease().status(); });
  f.clock.await_sleepers(1);
  f.clock.advance(3600s);
  f.clock.await_sleepers(1);
  held.give_back();
  CHECK(waiting.get().ok());
}

TEST_CASE("closing the pool aborts what is under way and refuses what comes", "[pool]") {
  Fixture f(1);
  f.server.hold();
  auto request = std::async(std::launch::async, [&] {
    Lease lease = std::move(f.share.lease().value());
    return lease.perform({}).status();
  });
  f.server.await_sent(1);
  auto waiting = std::async(std::launch::async, [&] { return f.share.lease().status(); });
  f.clock.await_sleepers(1);
  f.pool.close();
  CHECK(request.get().kind() == Kind::kLost);
  CHECK(waiting.get().kind() == Kind::kShutdown);
  CHECK(f.share.lease().status().kind() == Kind::kShutdown);
  CHECK(f.server.connections_alive() == 0);
}

TEST_CASE("the longest idle connection is the one that is due", "[pool]") {
  Fixture f(2);
  upload::ConnectionId older = 0;
  {
    Lease one = f.open();
    Lease two = f.open();
    older = one.id();
    one.give_back();
    f.clock.advance(5s);
  }
  const upload::TimePoint now = f.clock.now();
  CHECK(f.pool.idle_since() == now - 5s);
  CHECK_FALSE(f.pool.lease_idle(now - 6s));
  auto due = f.pool.lease_idle(now - 5s);
  REQUIRE(due);
  CHECK(due->id() == older);
  CHECK_FALSE(f.pool.lease_idle(now - 5s));
}

TEST_CASE("a connection that nobody has opened is not kept", "[pool]") {
  Fixture f(2);
  {
    Lease unused = std::move(f.share.lease().value());
    CHECK(f.server.connections_alive() == 1);
  }
  CHECK(f.server.connections_alive() == 0);
  CHECK(f.client.lost.empty());
}

TEST_CASE("a request on a connection that was closed while idle is not sent", "[pool]") {
  Fixture f;
  const upload::ConnectionId id = f.open().id();
  f.server.close_idle(id);
  Lease lease = std::move(f.share.lease(id).value());
  CHECK(lease.perform({}).status().kind() == Kind::kLost);
  CHECK(f.server.sent().size() == 1);
}

TEST_CASE("many threads share few connections", "[pool]") {
  Fixture f(3);
  std::atomic<int> inside = 0;
  std::atomic<int> most = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        Result<Lease> lease = f.share.lease();
        if (!lease.ok()) continue;
        const int now = ++inside;
        int seen = most;
        while (now > seen && !most.compare_exchange_weak(seen, now)) {
        }
        (void)lease.value().perform({});
        if ((i + t) % 50 == 0) lease.value().retire({Kind::kLost, "doubt"});
        --inside;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(most <= 3);
  CHECK(f.server.connections_alive() <= 3);
}
