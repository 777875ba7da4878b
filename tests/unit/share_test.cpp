// SPDX-License-Identifier: BSD-3-Clause
//
// Several volumes on one pool: whose turn it is, how many connections each may have, and
// that one which nobody answers does not keep the others from theirs (invariant 11).

#include "upstream/share.h"

#include <deque>

#include "catch.h"
#include "fakes.h"
#include "upstream/pool.h"

using namespace std::chrono_literals;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::testing::FakeClock;
using upload::testing::FakeServer;
using upload::upstream::Lease;
using upload::upstream::LeaseWaiter;
using upload::upstream::Pool;
using upload::upstream::Share;

namespace {

// A volume that asks for leases and keeps what it gets.
class User final : LeaseWaiter {
 public:
  explicit User(Pool& pool) : share(pool) {}
  ~User() override {
    share.abort_requests();
    leases.clear();
  }

  // True: it has got one at once.
  bool ask() {
    std::optional<Result<Lease>> lease = share.lease_or_wait(*this);
    if (lease) keep(std::move(*lease));
    return lease.has_value();
  }
  void ask(int times) {
    for (int i = 0; i < times; ++i) (void)ask();
  }
  void end_one() {
    REQUIRE(!leases.empty());
    Lease lease = std::move(leases.front());
    leases.pop_front();
  }

  Share share;
  std::deque<Lease> leases;
  Status refused;

 private:
  void granted(Result<Lease> lease) override { keep(std::move(lease)); }
  void keep(Result<Lease> lease) {
    if (!lease.ok()) {
      refused = lease.status();
      return;
    }
    Lease mine = std::move(lease.value());
    REQUIRE(mine.perform({}).ok());
    leases.push_back(std::move(mine));
  }
};

struct Fixture {
  explicit Fixture(unsigned connections)
      : pool({connections, 10s, 60s}, server.factory(), clock) {}
  // The users end before this.
  ~Fixture() { pool.close(); }

  FakeClock clock;
  FakeServer server;
  Pool pool;
};

}  // namespace

TEST_CASE("a volume that is alone gets every connection", "[share]") {
  Fixture f(4);
  User one(f.pool);
  one.ask(5);
  CHECK(one.leases.size() == 4);
  one.end_one();
  CHECK(one.leases.size() == 4);
}

TEST_CASE("a volume with one waiting request is served before another's hundredth", "[share]") {
  Fixture f(1);
  User heavy(f.pool);
  User light(f.pool);
  heavy.ask(100);
  CHECK_FALSE(light.ask());
  heavy.end_one();
  CHECK(light.leases.size() == 1);
  CHECK(heavy.leases.empty());
  light.end_one();
  CHECK(heavy.leases.size() == 1);
}

TEST_CASE("who was served the longest ago is next among those who have none", "[share]") {
  Fixture f(1);
  User users[] = {User(f.pool), User(f.pool), User(f.pool)};
  for (User& user : users) user.ask(4);
  std::string order;
  for (int i = 0; i < 9; ++i)
    for (int k = 0; k < 3; ++k)
      if (!users[k].leases.empty()) {
        order += static_cast<char>('a' + k);
        users[k].end_one();
        break;
      }
  CHECK(order == "abcabcabc");
}

TEST_CASE("a connection is left for a volume that has none", "[share]") {
  Fixture f(4);
  User stalled(f.pool);
  User other(f.pool);
  stalled.ask(10);
  CHECK(stalled.leases.size() == 3);
  CHECK(other.ask());
  // No more for who waits, as the rest is the other's part.
  other.end_one();
  CHECK(stalled.leases.size() == 3);
  CHECK(other.ask());
}

TEST_CASE("busy volumes have an equal part each, and get back what was lent", "[share]") {
  Fixture f(4);
  User one(f.pool);
  User two(f.pool);
  one.ask(10);
  two.ask(2);
  CHECK(one.leases.size() == 3);
  CHECK(two.leases.size() == 1);
  one.end_one();
  CHECK(one.leases.size() == 2);
  CHECK(two.leases.size() == 2);
  // What a busy volume does not use for a moment is not taken.
  two.end_one();
  CHECK(one.leases.size() == 2);
  CHECK(two.ask());
  two.end_one();
  two.end_one();
  // Of one that has not been busy for a second nothing is left but one connection.
  f.clock.advance(2s);
  one.end_one();
  CHECK(one.leases.size() == 3);
}

TEST_CASE("a volume uses its own connections before those of others", "[share]") {
  Fixture f(4);
  User one(f.pool);
  User two(f.pool);
  one.ask();
  const upload::ConnectionId first = one.leases.front().id();
  one.end_one();
  two.ask();
  const upload::ConnectionId second = two.leases.front().id();
  CHECK(second != first);
  two.end_one();
  one.ask();
  CHECK(one.leases.front().id() == first);
  one.end_one();
  // Where there is no room for another, those of others are used.
  User three(f.pool);
  User four(f.pool);
  User five(f.pool);
  for (User* user : {&three, &four, &five}) {
    user->ask();
    CHECK(user->leases.size() == 1);
    user->end_one();
  }
  CHECK(f.server.connections_made() == 4);
}

TEST_CASE("a volume that gives up lets the others go on", "[share]") {
  Fixture f(2);
  User one(f.pool);
  User two(f.pool);
  one.ask(3);
  two.ask(1);
  one.share.abort_requests();
  CHECK(one.refused.kind() == Kind::kShutdown);
  CHECK(one.leases.front().perform({}).status().kind() == Kind::kLost);
  CHECK(two.leases.front().perform({}).ok());
  one.refused = {};
  CHECK(one.ask());
  CHECK(one.refused.kind() == Kind::kShutdown);
}

TEST_CASE("a wait is hopeless when nothing moves for its own volume", "[share]") {
  Fixture f(2);
  User stalled(f.pool);
  User moving(f.pool);
  stalled.ask();
  moving.ask();
  const upload::TimePoint start = f.clock.now();
  f.clock.advance(60s);
  REQUIRE(moving.leases.front().perform({}).ok());
  CHECK(stalled.share.give_up_at(start) == start + 70s);
  CHECK(moving.share.give_up_at(start) == start + 130s);
  // Who has no connection waits as long as any moves.
  User none(f.pool);
  CHECK(none.share.give_up_at(start) == start + 130s);
  // Its turn is progress, too.
  moving.end_one();
  f.clock.advance(60s);
  none.ask();
  CHECK(none.share.give_up_at(start) == start + 190s);
}
