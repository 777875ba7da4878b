// SPDX-License-Identifier: BSD-3-Clause
//
// The fault matrix: everything the server can do wrong, in each situation in
// which it can do it. Whatever happens, either the client sees an error or
// the stable image is complete:
//
//   after every flush that succeeds, what was acknowledged before it is in
//   the stable image.
//
// Each target has the situations that mean something for it. Where a reply means stable nothing is
// unflushed and the plugin tries again by itself: a fault that passes is not noticed, with replay=
// or without, and only what the server will not have ends the volume.
//
// Beside it, over the same connections, another disk is used whose requests the server
// answers: it never fails (invariant 11).
//
// Each cell has a server, an nbdkit and two clients of its own, and goes on
// after an error: later requests may fail too, but not hang, and not succeed
// with data missing. Data that was acknowledged is remembered per block; a
// block whose write failed may hold the old or the new content.

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <thread>

#include "catch.h"
#include "fixture/nbdkit.h"
#include "fixture/spool_rows.h"
#include "fixture/targets.h"
#include "server.h"

using namespace std::chrono_literals;
using namespace upload::fixture;
using namespace upload::testserver;

namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 512;
constexpr uint64_t kSize = kBlocks * kBlock;

// What a client knows of the image: of each block the contents that it may
// have. Zero is a pattern like any other.
class Expectation {
 public:
  void wrote(uint64_t block, uint64_t number, bool acknowledged) {
    std::vector<uint64_t>& numbers = blocks_[block];
    if (acknowledged)
      numbers = {number};
    else if (numbers.empty())
      numbers = {0, number};
    else
      numbers.push_back(number);
  }

  // The first block whose content is none of those it may have.
  std::optional<uint64_t> violated(const Server& server) const {
    for (const auto& [block, numbers] : blocks_)
      if (!allows(block, server.read_stable("ticket", block * kBlock, kBlock))) return block;
    return std::nullopt;
  }

  // May the block, which was written, hold this?
  bool allows(uint64_t block, const std::vector<char>& content) const {
    const std::vector<uint64_t>& numbers = blocks_.at(block);
    return std::any_of(numbers.begin(), numbers.end(),
                       [&](uint64_t number) { return content == content_of(number); });
  }

  static std::vector<char> content_of(uint64_t number) {
    return number == 0 ? std::vector<char>(kBlock) : pattern(number, kBlock);
  }

 private:
  std::map<uint64_t, std::vector<uint64_t>> blocks_;
};

enum class Situation {
  kInFlight,
  kIdleClean,
  kIdleDirty,
  kFlush,
  kKeeperFlush,
  kStableWrite,
  kRead
};

const char* name_of(Situation situation) {
  switch (situation) {
    case Situation::kInFlight: return "requests in flight";
    case Situation::kIdleClean: return "idle and clean";
    case Situation::kIdleDirty: return "idle and dirty";
    case Situation::kFlush: return "during flush";
    case Situation::kKeeperFlush: return "during the keeper's flush";
    case Situation::kStableWrite: return "FUA write, dirty";
    case Situation::kRead: return "during a read";
  }
  return "?";
}

// One cell: a server, nbdkit and a client, with memory of what was acknowledged.
class Cell {
 public:
  explicit Cell(const std::string& name, const std::vector<std::string>& more = {},
                const TargetKind& target = kImageio)
      : watchdog_(name), server_(options(target)) {
    server_.start();
    TicketOptions ticket;
    ticket.size_bytes = kSize;
    server_.add_ticket(ticket);
    ticket.id = "neighbour";
    server_.add_ticket(ticket);
    std::vector<std::string> keys = {"cafile=" + server_.ca_file(),
                                     "timeout=0.7",
                                     "connect-timeout=2",
                                     std::string("target=") + target.name,
                                     "export=disk",
                                     "url=" + server_.url("ticket"),
                                     "export=neighbour",
                                     "url=" + server_.url("neighbour")};
    keys.insert(keys.end(), more.begin(), more.end());
    nbdkit_ = std::make_unique<Nbdkit>(keys);
    if (!nbdkit_->serves()) throw std::runtime_error(nbdkit_->log());
    client_ = std::make_unique<NbdClient>(*nbdkit_);
    neighbour_ = std::make_unique<NbdClient>(*nbdkit_, true, "neighbour");
  }

  // The other disk is well: what it is given is stable after a flush, which succeeds.
  void use_neighbour() {
    const uint64_t block = ++neighbours_;
    const auto data = Expectation::content_of(block);
    CHECK(neighbour_->write(block * kBlock, data.data(), kBlock) == 0);
    std::vector<char> read(kBlock);
    CHECK(neighbour_->read(block * kBlock, read.data(), kBlock) == 0);
    CHECK(read == data);
    CHECK(neighbour_->flush() == 0);
    CHECK(server_.read_stable("neighbour", block * kBlock, kBlock) == data);
  }

  bool write(uint64_t block, bool fua = false) {
    const uint64_t number = ++number_;
    const auto data = Expectation::content_of(number);
    return done(client_->write(block * kBlock, data.data(), kBlock, fua), block, number);
  }
  bool zero(uint64_t block) { return done(client_->zero(block * kBlock, kBlock), block, 0); }
  // Many at a time.
  bool write_many(uint64_t first, uint64_t count) {
    std::vector<std::vector<char>> data;
    std::vector<NbdClient::Write> writes;
    const uint64_t start = number_ + 1;
    for (uint64_t i = 0; i < count; ++i) data.push_back(Expectation::content_of(++number_));
    for (uint64_t i = 0; i < count; ++i)
      writes.push_back({(first + 2 * i) * kBlock, data[i].data(), kBlock});
    const std::vector<int> results = client_->write_all(writes);
    bool all = true;
    for (uint64_t i = 0; i < count; ++i) all = done(results[i], first + 2 * i, start + i) && all;
    return all;
  }
  bool read(uint64_t block) {
    char buffer[kBlock];
    return client_->read(block * kBlock, buffer, kBlock) == 0;
  }
  // A block that was written reads as it was.
  void read_back(uint64_t block) {
    std::vector<char> content(kBlock);
    if (client_->read(block * kBlock, content.data(), kBlock) != 0)
      failed_ = true;
    else
      CHECK(expectation_.allows(block, content));
  }
  // The invariant stands here.
  bool flush() {
    if (client_->flush() != 0) {
      failed_ = true;
      return false;
    }
    const auto violated = expectation_.violated(server_);
    INFO("block " << violated.value_or(0));
    CHECK_FALSE(violated);
    return true;
  }
  // A use of everything after the fault; then the flushes that must not lie.
  void go_on() {
    write(300);
    flush();
    zero(302);
    write(304, true);
    flush();
    flush();
  }

  [[nodiscard]] bool failed() const { return failed_; }
  Server& server() { return server_; }

 private:
  static ServerOptions options(const TargetKind& target) {
    ServerOptions options;
    options.protocol = target.protocol;
    options.idle_close = 0ms;
    return options;
  }
  bool done(int result, uint64_t block, uint64_t number) {
    expectation_.wrote(block, number, result == 0);
    failed_ = failed_ || result != 0;
    return result == 0;
  }

  Watchdog watchdog_;
  Server server_;
  std::unique_ptr<Nbdkit> nbdkit_;
  std::unique_ptr<NbdClient> client_;
  std::unique_ptr<NbdClient> neighbour_;
  uint64_t neighbours_ = 0;  // blocks that it has written
  Expectation expectation_;
  uint64_t number_ = 0;
  bool failed_ = false;
};

struct Schedule {
  const char* name;
  Action action;
  int status = 0;
  bool early = false;
  // The reply is as good as any: no error may follow.
  bool harmless = false;
  // The server says no: it is not asked again, replay or not.
  bool final = false;
  const char* error_code = nullptr;  // Azure's
};

const Schedule kSchedules[] = {
    {"close before the body", Action::close_before_body},
    {"reset", Action::reset},
    {"stall", Action::stall},
    {"delay", Action::delay, 0, false, true},
    {"close after the body", Action::close_after_body},
    {"close after applying", Action::close_after_apply},
    {"reset after applying", Action::reset_after_apply},
    {"stall after applying", Action::stall_after_apply},
    {"close in the middle of the reply", Action::close_mid_reply},
    {"a reply body cut short", Action::truncate_reply_body},
    {"a garbage status line", Action::garbage_status_line},
    {"garbage", Action::garbage},
    {"Connection: close", Action::connection_close},
    {"close after the reply", Action::close_after_reply},
    {"a chunked reply", Action::chunked, 0, false, true},
    {"a reply without a length", Action::no_content_length},
    {"a length that is too short", Action::lie_short_content_length},
    {"a length that is too long", Action::lie_long_content_length},
    {"400", Action::status, 400, false, false, true},
    {"400 before the body", Action::status, 400, true, false, true},
    {"401", Action::status, 401, false, false, true},
    {"403", Action::status, 403, false, false, true},
    {"403 before the body", Action::status, 403, true, false, true},
    {"404", Action::status, 404, false, false, true},
    {"408", Action::status, 408},
    {"410", Action::status, 410, false, false, true},
    {"416", Action::status, 416, false, false, true},
    {"429", Action::status, 429},
    {"500", Action::status, 500},
    {"500 before the body", Action::status, 500, true},
    {"502", Action::status, 502},
    {"503", Action::status, 503},
    {"503 before the body", Action::status, 503, true},
    {"504", Action::status, 504},
    {"507", Action::status, 507, false, false, true},
    {"200 with an unexpected body", Action::raw_json, 200, false, true},
    {"200 before the body", Action::status, 200, true},
    {"204", Action::status, 204},
    {"302", Action::status, 302},
    {"close in the middle of the body", Action::close_mid_body},
};

// What other targets have besides.
const Schedule kAzureSchedules[] = {
    {"a busy server", Action::server_busy},
    {"an operation that timed out", Action::operation_timed_out},
    {"somebody else's lease", Action::status, 412, false, false, true, "LeaseIdMissing"},
};

struct Meeting {
  Situation situation;
  Op op;
};

const Meeting kImageioMeetings[] = {
    {Situation::kInFlight, Op::put},      {Situation::kIdleClean, Op::put},
    {Situation::kIdleClean, Op::zero},    {Situation::kIdleDirty, Op::put},
    {Situation::kIdleDirty, Op::zero},    {Situation::kFlush, Op::flush},
    {Situation::kKeeperFlush, Op::flush}, {Situation::kStableWrite, Op::put}};
// Without a request for a flush, and without connections that are dirty.
const Meeting kAzureMeetings[] = {{Situation::kInFlight, Op::put},
                                  {Situation::kIdleClean, Op::zero},
                                  {Situation::kRead, Op::get}};
const Meeting kWebdavMeetings[] = {{Situation::kInFlight, Op::put}, {Situation::kRead, Op::get}};

// How often a fault is met in a row: more than once is an outage.
uint64_t times_in_a_row = 1;

Fault fault_of(const Schedule& schedule, Op op, uint64_t nth) {
  Fault fault;
  fault.ticket = "ticket";
  fault.op = op;
  fault.nth = nth;
  fault.times = times_in_a_row;
  fault.action = schedule.action;
  fault.status = schedule.status;
  fault.early = schedule.early;
  fault.body = "an injected fault";
  fault.delay = schedule.action == Action::delay ? 100ms : 0ms;
  if (schedule.error_code != nullptr)
    fault.headers.emplace_back("x-ms-error-code", schedule.error_code);
  return fault;
}

void run_situation(Cell& cell, const Schedule& schedule, Situation situation, Op op) {
  const auto meet = [&] { op == Op::zero ? cell.zero(100) : cell.write(100); };
  cell.write(0);
  cell.use_neighbour();
  switch (situation) {
    case Situation::kInFlight:
      cell.server().add_fault(fault_of(schedule, Op::put, 3));
      cell.write_many(10, 24);
      break;
    case Situation::kIdleClean:
      cell.flush();
      cell.server().add_fault(fault_of(schedule, op, 1));
      meet();
      break;
    case Situation::kIdleDirty:
      cell.server().add_fault(fault_of(schedule, op, 1));
      meet();
      break;
    case Situation::kFlush:
      cell.write_many(10, 8);
      cell.server().add_fault(fault_of(schedule, Op::flush, 1));
      cell.flush();
      break;
    case Situation::kKeeperFlush:
      cell.server().add_fault(fault_of(schedule, Op::flush, 1));
      REQUIRE(
          cell.server().wait_until([](const Counters& c) { return c.faults_fired > 0; }, 60s));
      break;
    case Situation::kStableWrite:
      cell.server().add_fault(fault_of(schedule, op, 1));
      cell.write(100, true);
      break;
    case Situation::kRead:
      cell.server().add_fault(fault_of(schedule, op, 1));
      cell.read_back(0);
      break;
  }
  cell.use_neighbour();
  cell.go_on();
  cell.use_neighbour();
}

}  // namespace

namespace {

struct Matrix {
  const char* title;
  const TargetKind& target;
  std::span<const Meeting> meetings;
  std::vector<std::string> keys;
  std::span<const Schedule> more_schedules{};
};

// A cell for each schedule and meeting; `check` sees each.
template <typename Check>
void run_matrix(const Matrix& matrix, Check check) {
  std::vector<Schedule> schedules(std::begin(kSchedules), std::end(kSchedules));
  schedules.insert(schedules.end(), matrix.more_schedules.begin(), matrix.more_schedules.end());
  size_t cells = 0;
  size_t survived = 0;
  for (const Schedule& schedule : schedules) {
    for (const auto& [situation, op] : matrix.meetings) {
      const std::string name = std::string(schedule.name) + ", " + name_of(situation) + ", " +
                               std::string(name_of(op));
      INFO(name);
      // The keeper would be in the way of the other situations.
      const bool keeper = situation == Situation::kKeeperFlush;
      std::vector<std::string> keys = matrix.keys;
      keys.push_back(keeper ? "idle-timeout=0.1" : "idle-timeout=3600");
      Cell cell(name, keys, matrix.target);
      run_situation(cell, schedule, situation, op);
      CHECK(cell.server().counters().faults_fired > 0);
      check(schedule, cell);
      ++cells;
      survived += cell.failed() ? 0 : 1;
    }
  }
  printf("fault matrix, %s: %zu cells (%zu schedules), %zu without any error, %zu with one\n",
         matrix.title, cells, schedules.size(), survived, cells - survived);
}

}  // namespace

TEST_CASE("the fault matrix: an error is seen, or the stable image is complete", "[matrix]") {
  run_matrix({"without replay", kImageio, kImageioMeetings, {}},
             [](const Schedule& schedule, const Cell& cell) {
               if (schedule.harmless) CHECK_FALSE(cell.failed());
             });
}

TEST_CASE("the fault matrix with replay: what the server recovers from is not noticed",
          "[matrix]") {
  run_matrix({"with replay", kImageio, kImageioMeetings, {"replay=128M", "retry-time=30"}},
             [](const Schedule& schedule, const Cell& cell) {
               if (!schedule.final) CHECK_FALSE(cell.failed());
             });
}

TEST_CASE("the fault matrix with write-back: what the server recovers from is not noticed",
          "[matrix]") {
  run_matrix({"with write-back",
              kImageio,
              kImageioMeetings,
              {"replay=128M", "retry-time=30", "write-back=true"}},
             [](const Schedule& schedule, const Cell& cell) {
               if (!schedule.final) CHECK_FALSE(cell.failed());
             });
}

TEST_CASE("the fault matrix with a spool, which takes what fails three times in a row",
          "[matrix]") {
  const TemporaryDirectory directory;
  times_in_a_row = 3;
  run_matrix({"with a spool",
              kImageio,
              kImageioMeetings,
              {"replay=128M", "retry-time=30", "spool=" + directory.path()}},
             [](const Schedule& schedule, const Cell& cell) {
               if (!schedule.final) CHECK_FALSE(cell.failed());
             });
  times_in_a_row = 1;
  CHECK(upload::fixture::spool_rows(directory.path()) == 0);
}

namespace {

// A fault that passes is not noticed; a denial ends the volume, and nothing else does.
void check_persistent(const Schedule& schedule, Cell& cell) {
  if (!schedule.final) CHECK_FALSE(cell.failed());
  // A reply may get lost that comes before the body was read.
  if (schedule.early && schedule.final) return;
  const bool denial = schedule.error_code != nullptr || schedule.status == 403 ||
                      schedule.status == 404 || schedule.status == 410;
  CHECK(cell.write(306) != denial);
  CHECK(cell.flush() != denial);
}

}  // namespace

TEST_CASE("the fault matrix of Azure: what passes is not noticed, without replay", "[matrix]") {
  run_matrix({"azure", kAzure, kAzureMeetings, {"retry-time=30"}, kAzureSchedules},
             check_persistent);
}

TEST_CASE("the fault matrix of WebDAV: what passes is not noticed, without replay", "[matrix]") {
  run_matrix({"webdav", kWebdav, kWebdavMeetings, {"retry-time=30"}}, check_persistent);
}

TEST_CASE("the fault matrix of Azure and of WebDAV with a spool", "[matrix]") {
  const TemporaryDirectory directory;
  times_in_a_row = 3;
  const std::vector<std::string> keys = {"replay=128M", "retry-time=30",
                                         "spool=" + directory.path()};
  run_matrix(
      {"azure with a spool", kAzure, std::span(kAzureMeetings).first(1), keys, kAzureSchedules},
      check_persistent);
  run_matrix({"webdav with a spool", kWebdav, std::span(kWebdavMeetings).first(1), keys},
             check_persistent);
  times_in_a_row = 1;
  CHECK(upload::fixture::spool_rows(directory.path()) == 0);
}

namespace {

void ride_out_outages(const std::vector<std::string>& keys, const TargetKind& target = kImageio) {
  Cell cell("outage", keys, target);
  for (int round = 0; round < 10; ++round) {
    INFO(round);
    REQUIRE(cell.write_many(10, 24));
    switch (round % 5) {
      case 0: cell.server().drop_all_connections(); break;
      case 1: cell.server().restart(); break;
      case 2: {
        cell.server().stop_listening();
        cell.server().drop_all_connections();
        std::thread back([&] {
          // While the client tries.
          std::this_thread::sleep_for(500ms);
          cell.server().resume_listening();
        });
        CHECK(cell.write(200));
        back.join();
        break;
      }
      case 3:
        cell.server().add_fault({.op = Op::connect, .times = 3, .action = Action::refuse});
        cell.server().drop_all_connections();
        break;
      default: cell.server().add_fault({.op = Op::any, .times = 5, .action = Action::reset});
    }
    CHECK(cell.read(14));
    CHECK(cell.zero(202));
    CHECK(cell.flush());
  }
  cell.go_on();
  CHECK_FALSE(cell.failed());
}

}  // namespace

TEST_CASE("with replay: outages, restarts and connections cut at any time are ridden out",
          "[matrix]") {
  ride_out_outages({"replay=128M", "retry-time=60", "connect-timeout=1"});
}

TEST_CASE("with a spool: outages, restarts and connections cut at any time are ridden out",
          "[matrix]") {
  const TemporaryDirectory directory;
  ride_out_outages(
      {"replay=128M", "retry-time=60", "connect-timeout=1", "spool=" + directory.path()});
  CHECK(upload::fixture::spool_rows(directory.path()) == 0);
}

TEST_CASE("where a reply means stable outages are ridden out without replay, too", "[matrix]") {
  for (const TargetKind* const target : {&kAzure, &kWebdav}) {
    INFO(target->name);
    ride_out_outages({"retry-time=60", "connect-timeout=1"}, *target);
  }
}

TEST_CASE("with replay: a late copy of a lost request overwrites nothing newer", "[matrix]") {
  // timeout=0.7 says how late a copy may be.
  Cell cell("late copy", {"replay=128M", "retry-time=30"});
  cell.server().set_late_apply(300ms);
  cell.server().add_fault({.op = Op::put, .action = Action::close_after_body});
  CHECK(cell.write(0));
  CHECK(cell.write(0));  // waits until the copy can't come any more
  CHECK(cell.flush());
  CHECK(cell.server().counters().late_applied == 1);
  CHECK(cell.flush());
  CHECK_FALSE(cell.failed());
}

TEST_CASE("where a reply means stable a late copy overwrites nothing newer, without replay",
          "[matrix]") {
  for (const TargetKind* const target : {&kAzure, &kWebdav}) {
    INFO(target->name);
    Cell cell("late copy", {"retry-time=30"}, *target);
    cell.server().set_late_apply(300ms);
    cell.server().add_fault({.op = Op::put, .action = Action::close_after_body});
    CHECK(cell.write(0));
    CHECK(cell.write(0));  // waits until the copy can't come any more
    CHECK(cell.flush());
    CHECK(cell.server().counters().late_applied == 1);
    cell.read_back(0);
    CHECK(cell.flush());
    CHECK_FALSE(cell.failed());
  }
}

TEST_CASE("a disk that has vanished ends the volume, also where the server makes it again",
          "[matrix]") {
  for (const TargetKind* const target : {&kAzure, &kWebdav}) {
    INFO(target->name);
    Cell cell("vanished", {"retry-time=30"}, *target);
    REQUIRE(cell.write(0));
    cell.server().remove_ticket("ticket");
    CHECK_FALSE(cell.write(2));
    CHECK_FALSE(cell.flush());
    CHECK_FALSE(cell.write(4));
    cell.use_neighbour();
  }
}

TEST_CASE("with a spool: a late copy of a lost request overwrites nothing newer", "[matrix]") {
  const TemporaryDirectory directory;
  Cell cell("late copy", {"replay=128M", "retry-time=30", "spool=" + directory.path()});
  cell.server().set_late_apply(300ms);
  cell.server().add_fault({.op = Op::put, .times = 2, .action = Action::close_after_body});
  CHECK(cell.write(0));  // into the spool, and two copies of it are under way
  CHECK(cell.write(0));
  CHECK(cell.flush());
  CHECK(cell.server().counters().late_applied == 2);
  CHECK(cell.flush());
  CHECK_FALSE(cell.failed());
}

TEST_CASE("with replay: an expired ticket during a recovery ends it at once", "[matrix]") {
  Cell cell("expired", {"replay=128M", "retry-time=600"});
  REQUIRE(cell.write(0));
  cell.server().remove_ticket("ticket");
  cell.server().drop_all_connections();
  CHECK_FALSE(cell.flush());
  CHECK_FALSE(cell.write(2));
}

// libcurl takes these for successes. The server has not read the data, and says that
// the connection ends: libcurl then sends no more.
TEST_CASE("a success that comes before the whole change was sent is none", "[matrix]") {
  constexpr uint64_t kLarge = uint64_t{32} << 20;  // more than sockets hold
  const Watchdog watchdog("an early success");
  Server server((ServerOptions()));
  server.start();
  TicketOptions ticket;
  ticket.size_bytes = kLarge;
  server.add_ticket(ticket);
  const Nbdkit nbdkit(
      {"url=" + server.url("ticket"), "cafile=" + server.ca_file(), "timeout=0.7"});
  REQUIRE(nbdkit.serves());
  NbdClient client(nbdkit);
  Fault fault;
  fault.op = Op::put;
  fault.action = Action::answer_before_body;
  server.add_fault(fault);
  const std::vector<char> data = pattern(1, kLarge);
  CHECK(client.write(0, data.data(), data.size(), true) != 0);
  CHECK(server.counters().faults_fired == 1);
}

TEST_CASE("a reply that breaks off after its status line is none", "[matrix]") {
  for (const Op op : {Op::flush, Op::put}) {
    INFO(name_of(op));
    Cell cell("a reply cut after its status line");
    REQUIRE(cell.write(0));
    cell.server().add_fault(fault_of({"", Action::close_mid_reply}, op, 1));
    if (op == Op::flush)
      CHECK_FALSE(cell.flush());
    else
      CHECK_FALSE(cell.write(2, true));
    CHECK(cell.server().counters().faults_fired == 1);
    CHECK_FALSE(cell.write(4));
  }
}

TEST_CASE("a keeper's failure is told by the next write, by a read and by flush", "[matrix]") {
  for (const Schedule& schedule :
       {kSchedules[0], kSchedules[1], kSchedules[5], kSchedules[28], kSchedules[31]}) {
    for (const bool dirty : {true, false}) {
      INFO(schedule.name << (dirty ? ", dirty" : ", clean"));
      Cell cell(schedule.name, {"idle-timeout=0.1"});
      REQUIRE(cell.write(0, !dirty));
      cell.server().add_fault(fault_of(schedule, Op::flush, 1));
      REQUIRE(
          cell.server().wait_until([](const Counters& c) { return c.faults_fired > 0; }, 60s));
      // However long the failure takes to arrive: the write waits behind it
      // or, if it got another connection, at least the flush tells.
      cell.write(2);
      CHECK_FALSE(cell.flush());
      CHECK_FALSE(cell.write(4));
      CHECK_FALSE(cell.read(0));
      CHECK_FALSE(cell.flush());
    }
  }
}

TEST_CASE("connections that are closed while idle: clean ones are replaced, dirty ones tell",
          "[matrix]") {
  size_t cells = 0;
  enum class Next { kWrite, kZero, kRead, kFlush };
  for (const bool dirty : {true, false}) {
    for (const Next next : {Next::kWrite, Next::kZero, Next::kRead, Next::kFlush}) {
      for (const bool restart : {true, false}) {
        INFO((dirty ? "dirty, " : "clean, ") << static_cast<int>(next));
        Cell cell("closed while idle", {"idle-timeout=3600"});
        cell.write_many(0, 16);
        if (!dirty) REQUIRE(cell.flush());
        if (restart)
          cell.server().restart();
        else
          cell.server().drop_all_connections();
        bool ok = false;
        switch (next) {
          case Next::kWrite: ok = cell.write(200); break;
          case Next::kZero: ok = cell.zero(200); break;
          case Next::kRead: ok = cell.read(0); break;
          case Next::kFlush: ok = cell.flush(); break;
        }
        // Of several connections the request may meet a clean one first.
        if (!dirty) CHECK(ok);
        CHECK(cell.flush() == !dirty);
        cell.go_on();
        ++cells;
      }
    }
  }
  printf("closed while idle: %zu cells\n", cells);
}

TEST_CASE("connections that can't be made: an error is seen, or all is complete", "[matrix]") {
  size_t cells = 0;
  for (const Action action : {Action::refuse, Action::reset, Action::no_handshake,
                              Action::garbage, Action::delay, Action::stall}) {
    for (const uint64_t times : {uint64_t{1}, uint64_t{3}}) {
      INFO(name_of(action) << " " << times);
      Cell cell("connect", {"idle-timeout=3600", "connect-timeout=0.5"});
      Fault fault;
      fault.op = Op::connect;
      fault.times = times;
      fault.action = action;
      fault.delay = action == Action::delay ? 100ms : 0ms;
      cell.server().add_fault(fault);
      cell.write_many(0, 32);
      cell.go_on();
      CHECK(cell.server().counters().faults_fired > 0);
      // The server is back: so is the volume, if nothing was lost.
      ++cells;
    }
  }
  printf("connecting: %zu cells\n", cells);
}

TEST_CASE("a server that went away and came back: no request succeeds on lost data", "[matrix]") {
  Cell cell("restart", {"idle-timeout=3600", "connect-timeout=0.5"});
  REQUIRE(cell.write_many(0, 16));
  REQUIRE(cell.flush());
  cell.server().stop_listening();
  cell.server().drop_all_connections();
  CHECK_FALSE(cell.write(0));
  CHECK_FALSE(cell.read(0));
  cell.server().resume_listening();
  CHECK(cell.write(0));
  CHECK(cell.flush());
}

TEST_CASE("a change that the server applies after its connection has gone overwrites nothing",
          "[matrix]") {
  Cell cell("late apply", {"idle-timeout=3600"});
  cell.server().set_late_apply(300ms);
  cell.server().add_fault({.op = Op::put, .action = Action::close_after_body});
  CHECK_FALSE(cell.write(0));
  cell.write(0);  // refused, or it would be overwritten
  cell.write(0, true);
  CHECK(cell.write(2));
  CHECK(cell.flush());
  REQUIRE(cell.server().wait_until([](const Counters& c) { return c.late_applied > 0; }, 60s));
  CHECK(cell.flush());
}
