// SPDX-License-Identifier: BSD-3-Clause
//
// Who logs in, when, and how often; and what a request does whose credential is refused.

#include "login/session.h"

#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/redact.h"
#include "catch.h"
#include "fakes.h"
#include "http/authorized_connection.h"
#include "http/origin.h"
#include "upstream/keeper.h"

using namespace std::chrono_literals;
using upload::Duration;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::TimePoint;
using upload::login::Session;
using upload::login::Token;
using upload::testing::FakeClock;
using upload::testing::FakeServer;
using upload::testing::kTooLong;
using upload::upstream::Keeper;
using upload::upstream::Lease;
using upload::upstream::Pool;
using upload::upstream::Share;
namespace http = upload::http;

namespace {

// Gives the tokens token-1, token-2 and so on, or fails.
class FakeLogin final : public upload::login::Login {
 public:
  Result<Token> log_in() override {
    std::unique_lock<std::mutex> lock(mutex_);
    const int number = ++logins_;
    changed_.notify_all();
    if (!changed_.wait_for(lock, kTooLong, [&] { return !held_ || stopped_; }))
      throw std::runtime_error("nobody releases the login");
    if (stopped_) return Status(Kind::kLogin, "stopped");
    if (fails_) return Status(Kind::kConnect, "nobody there");
    return Token{"token-" + std::to_string(number), life};
  }
  void stop() override {
    std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }
  void fail(bool fails) {
    std::lock_guard<std::mutex> lock(mutex_);
    fails_ = fails;
  }
  void hold(bool held) {
    std::lock_guard<std::mutex> lock(mutex_);
    held_ = held;
    changed_.notify_all();
  }
  void await_logins(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!changed_.wait_for(lock, kTooLong, [&] { return logins_ >= count; }))
      throw std::runtime_error("nobody logs in");
  }
  int logins() {
    std::lock_guard<std::mutex> lock(mutex_);
    return logins_;
  }

  std::optional<Duration> life = 3600s;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int logins_ = 0;
  bool held_ = false;
  bool fails_ = false;
  bool stopped_ = false;
};

struct Fixture {
  // The tokens are secrets, which other tests need not know of.
  ~Fixture() { upload::forget_secrets(); }
  // What a request shows; or why it can't.
  std::string shows() {
    const auto credential = session->current("a request");
    return credential.ok() ? upload::testing::shown_by(*credential.value())
                           : credential.status().text();
  }

  FakeClock clock;
  std::shared_ptr<FakeLogin> login = std::make_shared<FakeLogin>();
  std::shared_ptr<Session> session = std::make_shared<Session>(login, clock);
};

// An upload server that takes one token, over connections that show a session's.
struct Upload : Fixture {
  Upload() {
    server.on_request([this](const http::Request& request) -> Result<http::Reply> {
      std::lock_guard<std::mutex> lock(mutex);
      shown.push_back(request.authorization);
      http::Reply reply =
          FakeServer::ok(good.count(request.authorization) > 0 || good.empty() ? 200 : refusal);
      reply.last = reply.status != 200 && closes;
      return reply;
    });
    origin->make_credentials = [this] { return session; };
  }
  std::unique_ptr<http::Connection> connect() {
    return connector(origin, ++connections, {[] {}, [] {}});
  }

  FakeServer server;
  std::mutex mutex;
  std::set<std::string> good;  // empty: all are
  int refusal = 401;
  bool closes = false;
  std::vector<std::string> shown;
  upload::ConnectionId connections = 0;
  std::shared_ptr<http::Origin> origin = std::make_shared<http::Origin>();
  http::Connector connector = http::authorized(
      [this](const std::shared_ptr<const http::Origin>&, upload::ConnectionId id,
             http::ConnectionEvents events) { return server.factory()(id, std::move(events)); });
};

http::Request a_request() {
  http::Request request;
  request.what = "write";
  return request;
}

}  // namespace

TEST_CASE("the first request logs in, and the others use that login", "[session]") {
  Fixture f;
  CHECK(f.login->logins() == 0);
  CHECK(f.shows() == "Bearer token-1");
  CHECK(f.shows() == "Bearer token-1");
  CHECK(f.login->logins() == 1);
}

TEST_CASE("what a login has given is a secret from then on", "[session]") {
  upload::forget_secrets();
  Fixture f;
  (void)f.shows();
  CHECK(upload::redacted("no token-1 here") == "no token-1 here");  // too short for our texts
  CHECK(upload::excerpt("no token-1 here") == "...");
}

TEST_CASE("64 threads whose token is refused make one login", "[session]") {
  Fixture f;
  const auto first = f.session->current("").value();
  f.login->hold(true);
  std::atomic<int> renewed = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 64; ++i)
    threads.emplace_back([&] {
      const auto other = f.session->after_refusal(*first, 401, false, "a request");
      if (other.ok() && upload::testing::shown_by(*other.value()) == "Bearer token-2") ++renewed;
    });
  f.login->await_logins(2);
  f.login->hold(false);
  for (std::thread& thread : threads) thread.join();
  CHECK(renewed == 64);
  CHECK(f.login->logins() == 2);
}

TEST_CASE("a login that fails is the failure of all who wait for it", "[session]") {
  Fixture f;
  const auto first = f.session->current("").value();
  f.login->fail(true);
  f.login->hold(true);
  std::atomic<int> failed = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 64; ++i)
    threads.emplace_back([&] {
      const auto other = f.session->after_refusal(*first, 401, false, "a request");
      if (other.status().kind() == Kind::kLogin) ++failed;
    });
  f.login->await_logins(2);
  f.login->hold(false);
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == 64);
  CHECK(f.login->logins() == 2);
  // And of those who come at once; after a second it is tried again.
  CHECK_FALSE(f.session->after_refusal(*first, 401, false, "").ok());
  CHECK(f.login->logins() == 2);
  f.clock.advance(1s);
  f.login->fail(false);
  CHECK(upload::testing::shown_by(*f.session->after_refusal(*first, 401, false, "").value()) ==
        "Bearer token-3");
}

TEST_CASE("a login that throws keeps nobody waiting", "[session]") {
  struct Throwing final : upload::login::Login {
    Result<Token> log_in() override { throw std::bad_alloc(); }
    void stop() override {}
  };
  FakeClock clock;
  Session session(std::make_shared<Throwing>(), clock);
  REQUIRE(session.current("").status().kind() == Kind::kLogin);
  clock.advance(1s);
  CHECK(session.current("").status().text().find("out of memory") != std::string::npos);
}

TEST_CASE("a token that is over is not shown", "[session]") {
  Fixture f;
  f.login->life = 10s;
  CHECK(f.shows() == "Bearer token-1");
  f.clock.advance(9s);
  CHECK(f.shows() == "Bearer token-1");
  f.clock.advance(1s);
  CHECK(f.shows() == "Bearer token-2");
  f.clock.advance(10s);
  f.login->fail(true);
  CHECK(f.shows() == "could not log in: nobody there");
}

TEST_CASE("a time of day that jumps costs a login at most", "[session]") {
  Fixture f;
  CHECK(f.shows() == "Bearer token-1");
  f.clock.set_wall_forward(std::chrono::hours(24 * 365));
  CHECK(f.shows() == "Bearer token-2");
  f.clock.set_wall_forward(-std::chrono::hours(24 * 700));
  CHECK(f.shows() == "Bearer token-2");
  // A machine that was suspended: the monotonic clock stood still.
  f.clock.set_wall_forward(std::chrono::hours(24 * 700 + 1));
  CHECK(f.shows() == "Bearer token-3");
  // And set back, the token still ends.
  f.clock.set_wall_forward(-std::chrono::hours(24));
  f.clock.advance(3600s);
  CHECK(f.shows() == "Bearer token-4");
}

TEST_CASE("403 is the answer, unless the token's time is over", "[session]") {
  Fixture f;
  SECTION("its life time is known") { f.login->life = 10s; }
  SECTION("it is not known: after a minute it may be over") {
    f.login->life.reset();
    const auto young = f.session->current("").value();
    f.clock.advance(59s);
    CHECK(f.session->after_refusal(*young, 403, false, "").value() == nullptr);
  }
  const auto first = f.session->current("").value();
  CHECK(f.session->after_refusal(*first, 403, false, "").value() == nullptr);
  CHECK(f.login->logins() == 1);
  f.clock.advance(60s);
  CHECK(upload::testing::shown_by(*f.session->after_refusal(*first, 403, false, "").value()) ==
        "Bearer token-2");
  // Whoever was shown the old one meanwhile takes the new one.
  CHECK(upload::testing::shown_by(*f.session->after_refusal(*first, 403, false, "").value()) ==
        "Bearer token-2");
  CHECK(f.login->logins() == 2);
}

TEST_CASE("renewal is due at two thirds of the life time, a bit less at random", "[session]") {
  Fixture f;
  CHECK_FALSE(f.session->renewal_due());
  f.login->life = 900s;
  const TimePoint began = f.clock.now();
  (void)f.shows();
  REQUIRE(f.session->renewal_due());
  CHECK(*f.session->renewal_due() <= began + 600s);
  CHECK(*f.session->renewal_due() >= began + 540s);
  f.session->renew();
  CHECK(f.login->logins() == 1);
  f.clock.advance(600s);
  f.session->renew();
  CHECK(f.login->logins() == 2);
  CHECK(f.shows() == "Bearer token-2");
}

TEST_CASE("a token that lasts less than a second is not renewed for nobody", "[session]") {
  Fixture f;
  f.login->life = 900ms;
  (void)f.shows();
  CHECK_FALSE(f.session->renewal_due());
}

TEST_CASE("a renewal that fails is tried again while the token lasts", "[session]") {
  Fixture f;
  f.login->life = 900s;
  (void)f.shows();
  f.clock.advance(600s);
  f.login->fail(true);
  int tries = 0;
  while (f.session->renewal_due()) {
    REQUIRE(++tries < 100);
    const TimePoint due = *f.session->renewal_due();
    if (due > f.clock.now()) {
      CHECK(due >= f.clock.now() + 1s);
      f.clock.advance(due - f.clock.now());
    }
    f.session->renew();
    if (f.session->renewal_due()) CHECK(f.shows() == "Bearer token-1");
  }
  CHECK(tries > 3);
  f.login->fail(false);
  f.clock.advance(2s);
  const std::string shown = f.shows();
  CHECK(shown == "Bearer token-" + std::to_string(f.login->logins()));
}

TEST_CASE("without a life time nothing is renewed before it is refused", "[session]") {
  Fixture f;
  f.login->life.reset();
  (void)f.shows();
  f.clock.advance(std::chrono::hours(24 * 365));
  CHECK_FALSE(f.session->renewal_due());
  CHECK(f.shows() == "Bearer token-1");
}

TEST_CASE("the end ends a login under way, and what there is stays good", "[session]") {
  Fixture f;
  const auto first = f.session->current("").value();
  f.login->hold(true);
  std::thread waiting([&] {
    const auto other = f.session->after_refusal(*first, 401, false, "a request");
    CHECK(other.status().text() == "could not log in: stopped");
  });
  f.login->await_logins(2);
  f.session->stop();
  waiting.join();
  CHECK(f.shows() == "Bearer token-1");
  f.clock.advance(2s);
  CHECK_FALSE(f.session->after_refusal(*first, 401, false, "").ok());
  CHECK(f.login->logins() == 2);
}

// --- Requests -------------------------------------------------------------

TEST_CASE("a request whose token is refused is made again with another, once", "[session]") {
  Upload f;
  const auto connection = f.connect();
  CHECK(connection->perform(a_request()).value().status == 200);
  f.good = {"Bearer token-2"};
  CHECK(connection->perform(a_request()).value().status == 200);
  CHECK(f.shown ==
        std::vector<std::string>{"Bearer token-1", "Bearer token-1", "Bearer token-2"});
  CHECK(f.server.connections_made() == 1);
  f.good = {"none"};
  CHECK(connection->perform(a_request()).value().status == 401);
  CHECK(f.shown.size() == 5);
}

TEST_CASE("a token that expires on its way is worth another login, but not for ever",
          "[session]") {
  Upload f;
  f.login->life = 10s;
  f.server.on_request([&](const http::Request&) -> Result<http::Reply> {
    f.clock.advance(10s);
    return FakeServer::ok(401);
  });
  CHECK(f.connect()->perform(a_request()).value().status == 401);
  CHECK(f.login->logins() == 5);
}

TEST_CASE("a login that fails leaves the connection as it is", "[session]") {
  Upload f;
  const auto connection = f.connect();
  f.login->fail(true);
  CHECK(connection->perform(a_request()).status().kind() == Kind::kLogin);
  CHECK(connection->unopened());
  CHECK(f.shown.empty());
  f.login->fail(false);
  f.clock.advance(1s);
  CHECK(connection->perform(a_request()).ok());
  f.good = {"none"};
  f.login->fail(true);
  CHECK(connection->perform(a_request()).status().kind() == Kind::kLogin);
  CHECK_FALSE(connection->closed());
}

TEST_CASE("a refusal that closes the connection says so when there is a new login", "[session]") {
  Upload f;
  const auto connection = f.connect();
  (void)connection->perform(a_request()).ok();
  f.good = {"Bearer token-2"};
  f.closes = true;
  CHECK(connection->perform(a_request()).status().kind() == Kind::kLoggedOut);
  CHECK(f.shown.size() == 2);
  CHECK(f.connect()->perform(a_request()).ok());
  f.good = {"none"};
  f.login->fail(true);
  CHECK(f.connect()->perform(a_request()).status().kind() == Kind::kLogin);
}

TEST_CASE("credentials that are the same for ever are not asked for twice", "[session]") {
  Upload f;
  const auto fixed = std::make_shared<http::FixedCredentials>(
      std::make_shared<http::FixedCredential>("Basic abc"));
  f.origin->make_credentials = [&] { return fixed; };
  f.good = {"none"};
  CHECK(f.connect()->perform(a_request()).value().status == 401);
  CHECK(f.shown == std::vector<std::string>{"Basic abc"});
}

TEST_CASE("an origin without credentials shows none", "[session]") {
  Upload f;
  f.origin->make_credentials = {};
  (void)f.connect()->perform(a_request()).ok();
  CHECK(f.shown == std::vector<std::string>{""});
}

// --- Leases and the keeper ------------------------------------------------

namespace {

struct Client final : upload::upstream::PoolClient {
  void connection_lost(upload::ConnectionId id, const Status&) override { lost.push_back(id); }
  bool is_dirty(upload::ConnectionId) const override { return dirty; }
  TimePoint ticket_used() const override { return TimePoint::max(); }
  void keep_alive(Lease&) override {}
  bool dirty = false;
  std::vector<upload::ConnectionId> lost;
};

struct Pooled : Upload {
  Pooled() { share.set_client(client); }
  ~Pooled() {
    share.remove_client();
    pool.close();
  }
  Lease lease() { return std::move(share.lease().value()); }

  Client client;
  Pool pool{{1, 10s, 60s},
            [this](upload::ConnectionId id, http::ConnectionEvents events) {
              return connector(origin, id, std::move(events));
            },
            clock};
  Share share{pool};
};

}  // namespace

TEST_CASE("a clean connection that ends with its login is replaced, a dirty one is lost",
          "[session]") {
  Pooled f;
  f.closes = true;
  CHECK(f.lease().perform(a_request()).ok());
  f.good = {"Bearer token-2"};
  SECTION("clean") {
    Lease lease = f.lease();
    const auto before = lease.id();
    CHECK(lease.perform(a_request()).value().status == 200);
    CHECK(lease.id() != before);
    CHECK(f.server.connections_alive() == 1);
  }
  // Whoever sends what was lost again, and then flushes, does it with one lease.
  SECTION("dirty with what was sent in the same lease") {
    f.good = {};
    {
      Lease lease = f.lease();
      CHECK(lease.perform(a_request()).ok());
      f.good = {"Bearer token-2"};
      CHECK(lease.perform(a_request()).status().kind() == Kind::kLoggedOut);
    }
    CHECK(f.client.lost.size() == 1);
  }
  SECTION("dirty") {
    f.client.dirty = true;
    {
      Lease lease = f.lease();
      CHECK(lease.perform(a_request()).status().kind() == Kind::kLoggedOut);
      CHECK(lease.retired().kind() == Kind::kLoggedOut);
    }
    CHECK(f.client.lost.size() == 1);
  }
}

TEST_CASE("a login that fails does not cost the connection", "[session]") {
  Pooled f;
  CHECK(f.lease().perform(a_request()).ok());
  f.good = {"none"};
  f.login->fail(true);
  f.client.dirty = true;
  {
    Lease lease = f.lease();
    CHECK(lease.perform(a_request()).status().kind() == Kind::kLogin);
    CHECK(lease.retired().ok());
  }
  CHECK(f.client.lost.empty());
  CHECK(f.server.connections_alive() == 1);
}

TEST_CASE("what has no login is tried again soon, and not when it would be due", "[session]") {
  Pooled f;
  CHECK(f.lease().perform(a_request()).ok());
  f.good = {"Bearer token-2"};
  f.login->fail(true);
  const TimePoint idle_since = *f.pool.idle_since();
  f.clock.advance(30s);
  CHECK(f.lease().perform(a_request()).status().kind() == Kind::kLogin);
  CHECK(*f.pool.idle_since() == idle_since);
  f.good = {};
  CHECK(f.lease().perform(a_request()).ok());
  CHECK(*f.pool.idle_since() == f.clock.now());
}

TEST_CASE("the keeper renews the login, also when it lasts long and fails", "[session]") {
  Pooled f;
  f.login->life = 900s;
  (void)f.shows();
  Keeper keeper(f.pool, f.session, 30s, f.clock);
  f.clock.await_sleepers(1);
  f.login->hold(true);
  for (int i = 0; i < 30; ++i) {
    f.clock.advance(20s);
    f.clock.await_sleepers(1);
  }
  f.login->await_logins(2);
  // It waits for no longer than a second, and begins no second one.
  for (int i = 0; i < 3; ++i) {
    f.clock.advance(40s);
    f.clock.await_sleepers(1, 1ms);
  }
  CHECK(f.login->logins() == 2);
  CHECK_FALSE(f.session->renewal_due());
  f.login->hold(false);
  keeper.request_stop();
  keeper.join();
  CHECK(f.shows() == "Bearer token-2");
}
