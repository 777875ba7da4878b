// SPDX-License-Identifier: BSD-3-Clause
//
// When the keeper makes a request on an idle connection, and when it must not.

#include "upstream/keeper.h"

#include <set>
#include <stdexcept>
#include <thread>

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
using upload::upstream::Share;
namespace http = upload::http;

namespace {

// Sends a request to keep alive, as a volume does.
struct Client final : PoolClient {
  explicit Client(FakeClock& its_clock) : clock(its_clock), used(its_clock.now()) {}
  void connection_lost(upload::ConnectionId, const Status&) override { ++lost; }
  bool is_dirty(upload::ConnectionId id) const override { return dirty.count(id) > 0; }
  upload::TimePoint ticket_used() const override { return used; }
  void keep_alive(Lease& lease) override {
    http::Request request;
    request.what = what;
    if (lease.perform(request).ok()) used = clock.now();
  }
  FakeClock& clock;
  std::string what = "keep-alive";
  std::set<upload::ConnectionId> dirty;
  std::atomic<upload::TimePoint> used;
  std::atomic<int> lost = 0;
};

struct Fixture {
  explicit Fixture(unsigned connections = 2)
      : pool({connections, 10s, 60s}, server.factory(), clock) {
    share.set_client(client);
  }
  ~Fixture() {
    if (keeper) keeper->request_stop();
    pool.close();
    keeper.reset();
    share.remove_client();
  }
  void start() {
    keeper = std::make_unique<Keeper>(pool, nullptr, 30s, clock);
    clock.await_sleepers(1);
  }
  // Until the keeper has nothing to do but to sleep; with a request under way it sleeps for
  // a second.
  void pass(upload::Duration time) {
    clock.advance(time);
    clock.await_sleepers(1, 1s);
  }
  std::vector<upload::ConnectionId> kept() {
    std::vector<upload::ConnectionId> ids;
    for (const auto& sent : server.sent())
      if (sent.what == "keep-alive") ids.push_back(sent.connection);
    return ids;
  }
  upload::ConnectionId use() {
    Lease lease = std::move(share.lease().value());
    (void)lease.perform({});
    client.used = clock.now();
    return lease.id();
  }

  FakeClock clock;
  FakeServer server;
  Client client{clock};
  Pool pool;
  Share share{pool};
  std::unique_ptr<Keeper> keeper;
};

using Ids = std::vector<upload::ConnectionId>;

}  // namespace

TEST_CASE("an idle connection is kept alive before the idle time-out is over", "[keeper]") {
  Fixture f;
  const upload::ConnectionId id = f.use();
  f.start();
  f.pass(25s);
  CHECK(f.kept().empty());
  f.pass(5s);
  CHECK(f.kept() == Ids{id});
  f.pass(25s);
  CHECK(f.kept().size() == 1);
  f.pass(5s);
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
    Lease one = std::move(f.share.lease().value());
    (void)one.perform({});
    Lease two = std::move(f.share.lease().value());
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
    Lease one = std::move(f.share.lease().value());
    (void)one.perform({});
    Lease two = std::move(f.share.lease().value());
    (void)two.perform({});
  }
  f.start();
  f.server.hold();
  f.clock.advance(31s);
  f.server.await_sent(3);  // the keeper is at work
  const Ids kept = f.kept();
  REQUIRE(kept.size() == 1);
  Result<Lease> lease = f.share.lease();
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
  // The ticket is kept alive over another.
  CHECK(f.kept() == Ids{id + 1});
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

// --- Several volumes ------------------------------------------------------

namespace {

struct Volumes : Fixture {
  Volumes() : Fixture(4) {
    client.what = "one";
    two.what = "two";
    share_two.set_client(two);
  }
  ~Volumes() {
    if (keeper) keeper->request_stop();
    pool.close();
    keeper.reset();
    share_two.remove_client();
  }
  // Of those that were sent to keep something alive.
  size_t count(const std::string& what) {
    size_t found = 0;
    for (const auto& sent : server.sent()) found += sent.what == what ? 1 : 0;
    return found;
  }
  // Until so many have been sent, while time goes on.
  void await(const std::string& what, size_t many) {
    const auto give_up = std::chrono::steady_clock::now() + upload::testing::kTooLong / 3;
    while (count(what) < many) {
      if (std::chrono::steady_clock::now() > give_up)
        throw std::runtime_error("no more is sent of " + what);
      clock.advance(100ms);
      std::this_thread::sleep_for(1ms);
    }
  }
  Client two{clock};
  Share share_two{pool};
};

}  // namespace

TEST_CASE("a connection is flushed once by each volume that is dirty on it", "[keeper]") {
  Volumes f;
  const upload::ConnectionId id = f.use();
  f.client.dirty = {id};
  f.two.dirty = {id};
  f.start();
  f.pass(30s);
  CHECK(f.count("one") == 1);
  CHECK(f.count("two") == 1);
  CHECK(f.server.connections_made() == 1);
}

TEST_CASE("a ticket is kept alive once, not for each connection", "[keeper]") {
  Volumes f;
  {
    Lease one = std::move(f.share.lease().value());
    (void)one.perform({});
    Lease two = std::move(f.share.lease().value());
    (void)two.perform({});
  }
  f.start();
  f.pass(30s);
  // Each connection by one of them, and no ticket again for its own sake.
  CHECK(f.count("one") == 1);
  CHECK(f.count("two") == 1);
  f.pass(25s);
  f.pass(5s);
  CHECK(f.count("one") == 2);
  CHECK(f.count("two") == 2);
}

TEST_CASE("a ticket that waits for its turn is kept alive while others use all connections",
          "[keeper]") {
  Volumes f;
  f.start();
  for (int i = 0; i < 6; ++i) {
    f.use();
    f.pass(10s);
  }
  CHECK(f.count("one") == 0);
  CHECK(f.count("two") >= 1);
}

TEST_CASE("a volume that nobody answers does not hold up the others' tickets and connections",
          "[keeper]") {
  Volumes f;
  {
    Lease one = std::move(f.share.lease().value());
    (void)one.perform({});
    Lease two = std::move(f.share_two.lease().value());
    (void)two.perform({});
    f.client.dirty = {one.id()};
    f.two.dirty = {two.id()};
  }
  std::mutex mutex;
  std::condition_variable changed;
  bool frozen = true;
  f.server.on_request([&](const http::Request& request) -> Result<http::Reply> {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return request.what != "one" || !frozen; });
    return FakeServer::ok();
  });
  // Whatever happens, the frozen request ends.
  struct Thaw {
    ~Thaw() {
      std::lock_guard<std::mutex> lock(mutex);
      frozen = false;
      changed.notify_all();
    }
    std::mutex& mutex;
    std::condition_variable& changed;
    bool& frozen;
  } const thaw{mutex, changed, frozen};
  f.start();
  for (int i = 0; i < 4; ++i) {
    f.clock.advance(30s);
    f.await("two", static_cast<size_t>(i) + 1);
  }
  CHECK(f.count("one") == 1);
}
