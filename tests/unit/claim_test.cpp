// SPDX-License-Identifier: BSD-3-Clause
//
// Claims: records that others have written, lock files, what may be taken and what not, and the
// fence.

#include "claim/claim.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "catch.h"
#include "claim/etcd.h"
#include "claim/lock_file.h"
#include "fakes.h"
#include "fixture/temporary_directory.h"

using namespace std::chrono_literals;
using upload::BootTime;
using upload::Duration;
using upload::Fence;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::claim::Claim;
using upload::claim::describe;
using upload::claim::Etcd;
using upload::claim::from_json;
using upload::claim::hash_of;
using upload::claim::Ledger;
using upload::claim::LockFile;
using upload::claim::Owner;
using upload::claim::Record;
using upload::claim::Seen;
using upload::claim::State;
using upload::claim::to_json;
using upload::fixture::TemporaryDirectory;
using upload::testing::FakeClock;
using upload::testing::FakeServer;
namespace http = upload::http;

namespace {

const Owner kOwner{"foo", 123, 1795345200, "0123456789abcdef"};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// What several claims share, as a ledger's servers do.
struct World {
  std::optional<Record> record;
  int version = 0;
  std::string holder;  // the id of an owner
  BootTime lease_end = BootTime::min();
  Status fails;  // whatever is asked
  std::function<void()> before_take;
};

class FakeLedger final : public Ledger {
 public:
  FakeLedger(World& world, FakeClock& clock) : world_(world), clock_(clock) {}

  const std::string& name() const override { return name_; }
  Duration renew_every() const override { return 10s; }

  Result<Seen> look(BootTime) override {
    if (!world_.fails.ok()) return world_.fails;
    return Seen{world_.record, held() && world_.holder != id_, std::to_string(world_.version)};
  }
  Result<std::optional<BootTime>> take(const Seen& seen, const Record& record,
                                       BootTime) override {
    if (world_.before_take) std::exchange(world_.before_take, nullptr)();
    if (!world_.fails.ok()) return world_.fails;
    if (held() || seen.version != std::to_string(world_.version))
      return std::optional<BootTime>();
    id_ = world_.holder = record.owner.id;
    put(record);
    return std::optional(extend());
  }
  Result<BootTime> renew(BootTime) override {
    if (!world_.fails.ok()) return world_.fails;
    if (!held() || world_.holder != id_) return Status(Kind::kClaimLost, "gone");
    return extend();
  }
  Status write(const Record& record, BootTime) override {
    if (!world_.fails.ok()) return world_.fails;
    if (!held() || world_.holder != id_) return {Kind::kClaimLost, "gone"};
    put(record);
    return {};
  }
  Status let_go(const Record& record, BootTime until) override {
    const Status status = write(record, until);
    if (status.ok()) world_.holder.clear();
    return status;
  }

 private:
  bool held() const { return !world_.holder.empty() && clock_.boot_now() < world_.lease_end; }
  void put(const Record& record) {
    world_.record = record;
    ++world_.version;
  }
  BootTime extend() {
    world_.lease_end = clock_.boot_now() + 30s;
    return world_.lease_end - 2s;
  }

  const std::string name_ = "claim=fake";
  World& world_;
  FakeClock& clock_;
  std::string id_;
};

struct Fixture {
  FakeClock clock;
  World world;
  std::vector<Status> lost;
  std::atomic<bool> is_lost = false;

  void start(Claim& claim) {
    claim.start([this](const Status& why) {
      lost.push_back(why);
      is_lost = true;
    });
  }
  // By the claim's thread.
  void await_loss() {
    const auto end = std::chrono::steady_clock::now() + upload::testing::kTooLong;
    while (!is_lost) {
      if (std::chrono::steady_clock::now() > end) throw std::runtime_error("it is not lost");
      std::this_thread::yield();
    }
  }
  std::unique_ptr<Claim> make(bool steal = false, Duration wait = 0s) {
    return std::make_unique<Claim>(std::make_unique<FakeLedger>(world, clock),
                                   Claim::Options{wait, steal}, clock);
  }
  Claim::Sleep sleep() {
    return [this](Duration time) {
      clock.advance(time);
      return false;
    };
  }
  std::string refused(Claim& claim) {
    const Status status = claim.acquire(sleep());
    REQUIRE(status.kind() == Kind::kClaimed);
    return status.text();
  }
  // As an earlier process has left it.
  void leave(State state) { world.record = Record{state, 7, kOwner}; }
};

}  // namespace

// --- Records --------------------------------------------------------------

TEST_CASE("a record is read as it was written", "[claim]") {
  const Record record{State::kFailed, 41, {"h\"o\nst", 99, 12345, "ff"}};
  const std::string text = to_json(record);
  CHECK(text.find('\n') == std::string::npos);
  const auto read = from_json(text);
  REQUIRE(read.ok());
  CHECK(read.value() == record);
  CHECK(describe(kOwner) == "process 123 on host foo, since 2026-11-22 11:00:00 UTC");
  CHECK(has(describe({"a\x1b[2J\nb", 1, 0, ""}), "host a?[2J b, since 1970-01-01 00:00:00 UTC"));
}

TEST_CASE("what is no record is refused", "[claim]") {
  const std::string good = to_json({State::kUploading, 1, kOwner});
  REQUIRE(from_json(good).ok());
  const auto without = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    REQUIRE(at != text.npos);
    text.replace(at, from.size(), to);
    const auto read = from_json(text);
    REQUIRE_FALSE(read.ok());
    return read.status().text();
  };
  CHECK(has(without("\"uploading\"", "\"other\""), "\"state\" is missing or wrong"));
  CHECK(has(without("\"uploading\"", "7"), "\"state\" is missing or wrong"));
  CHECK(has(without("\"pid\":123", "\"pid\":-1"), "\"pid\" is missing or wrong"));
  CHECK(has(without("\"pid\":123", "\"pid\":1e3"), "\"pid\" is missing or wrong"));
  CHECK(has(without("\"pid\":123", "\"pid\":18446744073709551615"), "\"pid\""));
  CHECK(has(without("\"since\":1795345200", "\"since\":999999999999"), "\"since\""));
  CHECK(has(without("\"generation\":1", "\"generation\":9223372036854775807"), "\"generation\""));
  CHECK(has(without("\"host\":\"foo\"", "\"host\":null"), "\"host\""));
  CHECK(has(without("\"id\":\"0", "\"id\":\"" + std::string(100, 'x')), "\"id\""));
  CHECK(
      has(without("\"version\":1", "\"version\":2"), "version 2; this release knows version 1"));
  CHECK(has(from_json("[]").status().text(), "not a JSON object"));
  CHECK(has(from_json("").status().text(), "not a JSON object"));
  CHECK(has(from_json(std::string(5000, ' ')).status().text(), "longer than"));
}

TEST_CASE("a disk's claim is named by its URL without the query, or by its name", "[claim]") {
  const auto of = [](const std::string& url, const std::string& name = "") {
    return hash_of(name, http::parse_url(url).value());
  };
  CHECK(of("https://host/images/t").size() == 64);
  CHECK(of("https://host/images/t") == of("https://HOST:443/images/t?sig=secret"));
  CHECK(of("https://host/images/t") != of("http://host/images/t"));
  CHECK(of("https://host/images/t") != of("https://host/images/T"));
  CHECK(of("https://host/images/t", "disk") == of("https://other/images/u", "disk"));
  // SHA-256 of "disk".
  CHECK(of("https://host/images/t", "disk") ==
        "1044dec7206e8d7c9fbb4ae8f766668406d2567fc7fc1a160a9d4700fcf8f8e9");
}

// --- The fence ------------------------------------------------------------

TEST_CASE("a fence is open until its time, also while the machine is suspended", "[claim]") {
  FakeClock clock;
  Fence fence(clock);
  CHECK_FALSE(fence.open());
  REQUIRE(fence.open_until(clock.boot_now() + 10s));
  CHECK(fence.check().ok());
  clock.advance(4s);
  clock.suspend(5s);
  CHECK(fence.open());
  clock.suspend(1s);
  CHECK(fence.check().kind() == Kind::kClaimLost);
}

TEST_CASE("a fence that was reached stays closed", "[claim]") {
  FakeClock clock;
  Fence fence(clock);
  REQUIRE(fence.open_until(clock.boot_now() + 10s));
  REQUIRE(fence.open_until(clock.boot_now() + 20s));
  clock.advance(20s);
  CHECK_FALSE(fence.open_until(clock.boot_now() + 10s));
  CHECK_FALSE(fence.open());
  Fence closed(clock);
  REQUIRE(closed.open_until(BootTime::max()));
  closed.close("somebody has it");
  CHECK_FALSE(closed.open_until(BootTime::max()));
  CHECK(closed.check().text() == "somebody has it");
}

// --- The policy -----------------------------------------------------------

TEST_CASE("what nobody has had is taken, and given back as it was", "[claim]") {
  Fixture f;
  const auto claim = f.make();
  REQUIRE(claim->acquire(f.sleep()).ok());
  CHECK(f.world.record->state == State::kAvailable);  // until start()
  CHECK(claim->fence().open());
  CHECK(f.refused(*f.make(true)).find("another uploads to this disk: process ") !=
        std::string::npos);
  claim->start({});
  CHECK(f.world.record->state == State::kUploading);
  claim->stop();
  REQUIRE(claim->let_go(std::nullopt).ok());
  CHECK(f.world.record->state == State::kAvailable);
  CHECK_FALSE(claim->fence().open());
  CHECK(f.world.holder.empty());
}

TEST_CASE("what was left needs claim-steal", "[claim]") {
  const auto [state, words] = GENERATE(
      std::pair{State::kUploading, "was begun and has not ended"},
      std::pair{State::kComplete, "is complete"}, std::pair{State::kFailed, "has failed"});
  Fixture f;
  f.leave(state);
  const std::string why = f.refused(*f.make(false, 100s));
  CHECK(has(why, words));
  CHECK(has(why, "process 123 on host foo, since 2026-11-22 11:00:00 UTC; claim-steal=true"));
  CHECK(f.world.record->owner == kOwner);
  const auto claim = f.make(true);
  REQUIRE(claim->acquire(f.sleep()).ok());
  CHECK(f.world.record->generation == 8);
  claim->start({});
  claim->stop();
  REQUIRE(claim->let_go(std::nullopt).ok());
  CHECK(f.world.record->state == state);
  CHECK(f.world.record->owner == kOwner);
  CHECK(f.world.record->generation == 8);
}

TEST_CASE("the state at the end is the one that is told", "[claim]") {
  Fixture f;
  const auto claim = f.make();
  REQUIRE(claim->acquire(f.sleep()).ok());
  claim->start({});
  claim->stop();
  REQUIRE(claim->let_go(State::kComplete).ok());
  CHECK(f.world.record->state == State::kComplete);
}

TEST_CASE("claim-wait waits for another's claim, and for no longer", "[claim]") {
  Fixture f;
  f.leave(State::kAvailable);
  f.world.holder = "other";
  f.world.lease_end = f.clock.boot_now() + 20s;
  const BootTime start = f.clock.boot_now();
  CHECK(has(f.refused(*f.make(false, 5s)), "another uploads"));
  CHECK(f.clock.boot_now() - start == 5s);
  int renewed = 0;
  REQUIRE(f.make(false, 60s)->acquire(f.sleep(), [&] { ++renewed; }).ok());
  CHECK(renewed == 15);
  CHECK(f.clock.boot_now() - start == 20s);
}

TEST_CASE("whoever waits goes when nbdkit is to end", "[claim]") {
  Fixture f;
  f.world.holder = "other";
  f.world.lease_end = f.clock.boot_now() + 20s;
  CHECK(
      has(f.make(false, 60s)->acquire([](Duration) { return true; }).text(), "nbdkit is to end"));
}

TEST_CASE("what fails is tried again while it is waited, but not what can't help", "[claim]") {
  Fixture f;
  f.world.fails = Status(Kind::kConnect, "no connection");
  const BootTime start = f.clock.boot_now();
  CHECK(f.make(false, 5s)->acquire(f.sleep()).kind() == Kind::kConnect);
  CHECK(f.clock.boot_now() - start == 5s);
  f.world.fails = Status(Kind::kInvalid, "damaged");
  CHECK(f.make(false, 5s)->acquire(f.sleep()).kind() == Kind::kInvalid);
  CHECK(f.clock.boot_now() - start == 5s);
}

TEST_CASE("of two that have seen the same one gets it", "[claim]") {
  Fixture f;
  const auto fast = f.make();
  const auto slow = f.make();
  f.world.before_take = [&] { REQUIRE(fast->acquire(f.sleep()).ok()); };
  CHECK(has(f.refused(*slow), "another uploads"));
  CHECK(fast->fence().open());
}

TEST_CASE("a claim is renewed, and good for longer each time", "[claim]") {
  Fixture f;
  const auto claim = f.make();
  REQUIRE(claim->acquire(f.sleep()).ok());
  f.start(*claim);
  for (int i = 0; i < 10; ++i) {
    f.clock.await_sleepers(1);
    f.clock.advance(10s);
  }
  f.clock.await_sleepers(1);
  CHECK(claim->fence().open());
  claim->stop();
  CHECK(f.lost.empty());
}

TEST_CASE("a claim that can't be renewed runs out before the lease does", "[claim]") {
  Fixture f;
  const auto claim = f.make();
  REQUIRE(claim->acquire(f.sleep()).ok());
  f.start(*claim);
  f.clock.await_sleepers(1);
  f.world.fails = Status(Kind::kConnect, "no connection");
  f.clock.advance(11s);
  f.clock.await_sleepers(1);
  CHECK(claim->fence().open());
  f.clock.advance(17s);
  f.await_loss();
  claim->stop();
  REQUIRE_FALSE(claim->fence().open());
  CHECK(f.clock.boot_now() < f.world.lease_end);
  CHECK(f.lost[0].text() ==
        "claim=fake: the claim ran out before it was renewed, which failed: no connection");
}

TEST_CASE("who was stopped for longer than the lease learns who has the disk", "[claim]") {
  Fixture f;
  const auto claim = f.make();
  REQUIRE(claim->acquire(f.sleep()).ok());
  // Suspended: the thread sleeps, and nobody has told it.
  f.clock.suspend(40s);
  CHECK(claim->fence().check().kind() == Kind::kClaimLost);
  const auto other = f.make(true);
  REQUIRE(other->acquire(f.sleep()).ok());
  f.start(*claim);
  REQUIRE(f.lost.size() == 1);
  CHECK(has(f.lost[0].text(), "claim=fake: the claim was lost to process "));
  CHECK(f.world.record->state == State::kAvailable);
  CHECK(claim->let_go(State::kComplete).kind() == Kind::kClaimLost);
  CHECK(f.world.record->state == State::kAvailable);
  CHECK(other->fence().open());
}

TEST_CASE("a claim that was taken away closes the fence at the next renewal", "[claim]") {
  Fixture f;
  const auto claim = f.make();
  REQUIRE(claim->acquire(f.sleep()).ok());
  f.start(*claim);
  f.clock.await_sleepers(1);
  f.world.holder.clear();
  f.clock.advance(10s);
  f.await_loss();
  claim->stop();
  REQUIRE(f.lost.size() == 1);
  CHECK(f.lost[0].text() == "claim=fake: the claim was lost: gone");
}

TEST_CASE("a claim is renewed while another is waited for", "[claim]") {
  Fixture f;
  const auto claim = f.make();
  REQUIRE(claim->acquire(f.sleep()).ok());
  for (int i = 0; i < 60; ++i) {
    f.clock.advance(1s);
    claim->renew_if_due();
  }
  CHECK(claim->fence().open());
}

// --- Lock files -----------------------------------------------------------

namespace {

struct Files {
  TemporaryDirectory directory;
  std::string path = directory.path() + "/hash.claim";
  Record record{State::kUploading, 1, kOwner};

  Seen look(LockFile& file) {
    auto seen = file.look(BootTime::max());
    INFO(seen.status().text());
    REQUIRE(seen.ok());
    return seen.value();
  }
  bool take(LockFile& file, const Seen& seen) {
    auto taken = file.take(seen, record, BootTime::max());
    INFO(taken.status().text());
    REQUIRE(taken.ok());
    return taken.value().has_value();
  }
};

}  // namespace

TEST_CASE("of two lock files in one process one is taken", "[claim]") {
  Files f;
  LockFile one(f.directory.path(), "hash");
  LockFile two(f.directory.path(), "hash");
  const Seen before = f.look(two);
  CHECK_FALSE(before.record);
  CHECK(access(f.path.c_str(), F_OK) != 0);
  REQUIRE(f.take(one, f.look(one)));
  CHECK_FALSE(f.take(two, before));
  CHECK(f.look(two).held);
  CHECK(f.look(two).record == f.record);
  CHECK_FALSE(f.look(one).held);
  REQUIRE(one.let_go({State::kComplete, 1, kOwner}, BootTime::max()).ok());
  CHECK_FALSE(f.take(two, before));  // it was seen otherwise
  const Seen after = f.look(two);
  CHECK_FALSE(after.held);
  CHECK(after.record->state == State::kComplete);
  CHECK(f.take(two, after));
}

TEST_CASE("a lock survives that its process forks and the parent ends", "[claim]") {
  Files f;
  int ready[2];
  int end[2];
  REQUIRE(pipe(ready) == 0);
  REQUIRE(pipe(end) == 0);
  const pid_t parent = fork();
  if (parent == 0) {
    LockFile file(f.directory.path(), "hash");
    const auto taken = file.take(Seen(), f.record, BootTime::max());
    if (!taken.ok() || !taken.value()) _exit(1);
    if (fork() != 0) _exit(0);
    close(end[1]);
    char byte = 'x';
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    (void)!read(end[0], &byte, 1);  // until the other end is closed
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(parent, &status, 0) == parent);
  REQUIRE(status == 0);
  close(ready[1]);
  char byte = 0;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  LockFile file(f.directory.path(), "hash");
  const Seen seen = f.look(file);
  CHECK(seen.held);
  CHECK_FALSE(f.take(file, seen));
  close(end[1]);  // the child ends, by _exit() and without letting go
  close(ready[0]);
  close(end[0]);
  while (f.look(file).held) std::this_thread::yield();
  CHECK(f.take(file, f.look(file)));
}

TEST_CASE("a claim's file that was removed or replaced is nobody's", "[claim]") {
  Files f;
  LockFile one(f.directory.path(), "hash");
  LockFile two(f.directory.path(), "hash");
  REQUIRE(f.take(one, f.look(one)));
  REQUIRE(unlink(f.path.c_str()) == 0);
  CHECK(one.renew(BootTime::max()).status().kind() == Kind::kClaimLost);
  REQUIRE(f.take(two, f.look(two)));
  CHECK(one.renew(BootTime::max()).status().kind() == Kind::kClaimLost);
  CHECK(one.let_go({State::kFailed, 1, kOwner}, BootTime::max()).kind() == Kind::kClaimLost);
  CHECK(f.look(two).record == f.record);
  CHECK(two.renew(BootTime::max()).ok());
}

TEST_CASE("a file that was made and never written is no claim", "[claim]") {
  Files f;
  std::ofstream(f.path).close();
  LockFile file(f.directory.path(), "hash");
  CHECK_FALSE(f.look(file).record);
  CHECK(f.take(file, f.look(file)));
}

TEST_CASE("a shorter record leaves nothing of a longer one", "[claim]") {
  Files f;
  LockFile file(f.directory.path(), "hash");
  f.record.owner.host = std::string(100, 'h');
  REQUIRE(f.take(file, f.look(file)));
  REQUIRE(file.write({State::kFailed, 1, kOwner}, BootTime::max()).ok());
  CHECK(f.look(file).record == Record{State::kFailed, 1, kOwner});
}

// --- etcd -----------------------------------------------------------------

namespace {

// One member that answers what is said.
struct Member {
  FakeClock clock;
  std::vector<std::string> asked;
  std::function<Result<http::Reply>(const http::Request&)> answer;

  Etcd make() {
    http::Origin origin;
    origin.url = http::parse_url("http://etcd:2379/v3").value();
    return Etcd(
        {origin}, "hash", 30s,
        [this](std::shared_ptr<const http::Origin>, upload::ConnectionId id,
               http::ConnectionEvents events) {
          server.on_request([this](const http::Request& request) {
            asked.push_back(request.target);
            return answer(request);
          });
          events.opened = [] {};
          events.progress = [] {};
          return server.factory()(id, std::move(events));
        },
        clock);
  }
  BootTime soon() { return clock.boot_now() + 10s; }
  FakeServer server;
};

http::Reply replied(const std::string& body, int status = 200) {
  http::Reply reply = FakeServer::ok(status);
  reply.body = body;
  return reply;
}

const std::string kHeader = R"("header": {"cluster_id": "7", "revision": "1"})";

}  // namespace

TEST_CASE("what is no etcd is told from one that fails", "[claim]") {
  Member m;
  Etcd etcd = m.make();
  for (const auto& [body, status] :
       std::vector<std::pair<std::string, int>>{{"<html>", 200},
                                                {"{}", 200},
                                                {"[]", 200},
                                                {"", 204},
                                                {"not found", 404},
                                                {"{\"header\": 7}", 200}}) {
    m.answer = [reply = replied(body, status)](const http::Request&) { return reply; };
    const auto seen = etcd.look(m.soon());
    REQUIRE_FALSE(seen.ok());
    CHECK(seen.status().kind() == Kind::kInvalid);
    CHECK(has(seen.status().text(),
              "claim=etcd:http://etcd:2379: http://etcd:2379 does not answer as etcd does"));
  }
  m.answer = [](const http::Request&) { return Status(Kind::kLost, "lost"); };
  CHECK(etcd.look(m.soon()).status().kind() == Kind::kLost);
  m.answer = [](const http::Request&) { return replied("{" + kHeader + "}"); };
  REQUIRE(etcd.look(m.soon()).ok());
  m.answer = [](const http::Request&) { return replied(R"({"header": {"cluster_id": "8"}})"); };
  CHECK(has(etcd.look(m.soon()).status().text(), "is a member of another cluster"));
}

TEST_CASE("a claim in etcd is good from before it was asked for, less the margin", "[claim]") {
  Member m;
  Etcd etcd = m.make();
  m.answer = [&](const http::Request& request) {
    m.clock.advance(1s);  // each request takes its time
    if (request.target == "/v3/lease/grant")
      return replied("{" + kHeader + R"(, "ID": "5", "TTL": "30"})");
    if (request.target == "/v3/lease/keepalive")
      return replied(R"({"result": {)" + kHeader + R"(, "ID": "5", "TTL": "30"}})");
    if (request.target == "/v3/kv/range")  // the holder, "0123456789abcdef"
      return replied(
          "{" + kHeader +
          R"(, "kvs": [{"key": "L25iZGtpdC11cGxvYWQvY2xhaW1zL2hhc2gvaG9sZGVy", "value": "MDEyMzQ1Njc4OWFiY2RlZg=="}]})");
    return replied("{" + kHeader + R"(, "succeeded": true})");
  };
  const BootTime start = m.clock.boot_now();
  const auto taken = etcd.take(Seen{{}, false, "0"}, {State::kAvailable, 1, kOwner}, m.soon());
  REQUIRE(taken.ok());
  REQUIRE(taken.value());
  CHECK(*taken.value() == start + 28s);
  const BootTime renewal = m.clock.boot_now();
  const auto renewed = etcd.renew(m.soon());
  REQUIRE(renewed.ok());
  CHECK(renewed.value() == renewal + 28s);
}

TEST_CASE("a lease that is gone, or a holder's key that is, is a claim that is lost", "[claim]") {
  Member m;
  Etcd etcd = m.make();
  m.answer = [&](const http::Request& request) {
    if (request.target == "/v3/lease/grant")
      return replied("{" + kHeader + R"(, "ID": "5", "TTL": "30"})");
    return replied("{" + kHeader + R"(, "succeeded": true})");
  };
  REQUIRE(etcd.take(Seen{{}, false, "0"}, {State::kAvailable, 1, kOwner}, m.soon()).value());
  m.answer = [&](const http::Request&) {
    return replied(R"({"result": {)" + kHeader + R"(, "ID": "5"}})");
  };
  CHECK(etcd.renew(m.soon()).status().kind() == Kind::kClaimLost);
  m.answer = [&](const http::Request& request) {
    if (request.target == "/v3/kv/range") return replied("{" + kHeader + "}");
    return replied(R"({"result": {)" + kHeader + R"(, "ID": "5", "TTL": "30"}})");
  };
  CHECK(etcd.renew(m.soon()).status().kind() == Kind::kClaimLost);
  m.answer = [&](const http::Request&) { return Status(Kind::kLost, "lost"); };
  CHECK(etcd.renew(m.soon()).status().kind() == Kind::kLost);
}

TEST_CASE("a transaction that was done although its reply was lost is recognised", "[claim]") {
  Member m;
  Etcd etcd = m.make();
  const std::string mine =
      "{" + kHeader +
      R"(, "kvs": [{"key": "L25iZGtpdC11cGxvYWQvY2xhaW1zL2hhc2gvaG9sZGVy", "value": "MDEyMzQ1Njc4OWFiY2RlZg=="}]})";
  int transactions = 0;
  m.answer = [&](const http::Request& request) -> Result<http::Reply> {
    if (request.target == "/v3/lease/grant")
      return replied("{" + kHeader + R"(, "ID": "5", "TTL": "30"})");
    if (request.target == "/v3/kv/range") return replied(mine);
    ++transactions;
    return replied("{" + kHeader + "}");  // not succeeded: the key is there already
  };
  const auto taken = etcd.take(Seen{{}, false, "0"}, {State::kAvailable, 1, kOwner}, m.soon());
  REQUIRE(taken.ok());
  CHECK(taken.value());
  CHECK(transactions == 1);
}
