// SPDX-License-Identifier: BSD-3-Clause
//
// The kinds of mischief, and how often each is chosen.
//
// A fault is programmed for one of the next few requests, and then waited for,
// so that what fired can be told by its name. One that nobody meets (a fault
// of a zero while nobody zeroes) is taken back; if it was met just before that
// it counts as "other". A burst is several at a time.
//
// The only waits in real time are the outages, which are what they are, and
// kFaultWait, after which a quiet disk gets its next fault anyway.

#include "soak/chaos.h"

#include <vector>

namespace upload::soak {

using namespace std::chrono_literals;
using testserver::Action;
using testserver::Counters;
using testserver::Fault;
using testserver::Op;

namespace {

constexpr auto kFaultWait = 100ms;

struct Kind {
  uint64_t weight;
  Action action;
  int status = 0;
  bool early = false;
  const char* retry_after = nullptr;
  bool recoverable = true;
};

// A stall costs the plugin its time-out, Retry-After what it says.
const Kind kKinds[] = {
    {8, Action::close_before_body},
    {8, Action::close_after_body},
    {8, Action::close_after_apply},
    {8, Action::close_after_reply},
    {6, Action::close_mid_reply},
    {3, Action::close_mid_reply, 0, true},
    {8, Action::reset},
    {8, Action::reset_after_apply},
    {1, Action::stall},
    {1, Action::stall_after_apply},
    {4, Action::delay},
    {6, Action::close_mid_body},
    {5, Action::truncate_reply_body},
    {5, Action::garbage_status_line},
    {5, Action::garbage},
    {6, Action::connection_close},
    {2, Action::no_content_length},
    {2, Action::chunked},
    {6, Action::status, 500},
    {3, Action::status, 500, true},
    {6, Action::status, 503},
    {3, Action::status, 503, true},
    {3, Action::status, 503, false, "0"},
    {1, Action::status, 503, false, "1"},
    {3, Action::status, 429},
    {2, Action::status, 429, false, "0"},
    {3, Action::status, 408},
    {3, Action::server_busy, 0, false, "0"},
    {1, Action::server_busy, 0, false, "1"},
    {3, Action::operation_timed_out, 0, false, "0"},
    {4, Action::status, 502},
    {2, Action::status, 502, true},
    {4, Action::status, 504},
    {1, Action::lie_short_content_length, 0, false, nullptr, false},
    {1, Action::lie_long_content_length, 0, false, nullptr, false},
    {1, Action::status, 200, true, nullptr, false},
    {1, Action::status, 302, false, nullptr, false},
    {1, Action::status, 400, false, nullptr, false},
    {1, Action::status, 401, false, nullptr, false},
    {1, Action::status, 403, false, nullptr, false},
    {1, Action::status, 404, false, nullptr, false},
    {1, Action::status, 410, false, nullptr, false},
    {1, Action::status, 507, false, nullptr, false},
};

const Action kConnectActions[] = {Action::refuse,  Action::refuse, Action::reset,
                                  Action::garbage, Action::delay,  Action::no_handshake};

const Op kOps[] = {Op::any, Op::any, Op::any,  Op::any,   Op::put,
                   Op::put, Op::get, Op::zero, Op::flush, Op::flush};
// Without a request for a flush.
const Op kStableOps[] = {Op::any, Op::any, Op::any, Op::any, Op::put, Op::put, Op::get, Op::get};

std::string name_of(const Kind& kind) {
  std::string name(testserver::name_of(kind.action));
  if (kind.action == Action::status) name = std::to_string(kind.status);
  if (kind.early) name += "_early";
  if (kind.retry_after != nullptr) name += std::string("_retry_after_") + kind.retry_after;
  return name;
}

const Kind& choose(Random& random, bool survivable) {
  const auto chosen = [&](const Kind& kind) { return !survivable || kind.recoverable; };
  uint64_t sum = 0;
  for (const Kind& kind : kKinds) sum += chosen(kind) ? kind.weight : 0;
  uint64_t at = random.below(sum);
  for (const Kind& kind : kKinds) {
    if (!chosen(kind)) continue;
    if (at < kind.weight) return kind;
    at -= kind.weight;
  }
  return kKinds[0];
}

}  // namespace

Chaos::Chaos(testserver::Server& server, const fixture::TargetKind& target, bool survivable,
             Random random)
    : server_(server), target_(target), survivable_(survivable), random_(random), thread_([this] {
        run();
      }) {}

Chaos::~Chaos() { stop(); }

void Chaos::stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

uint64_t Chaos::total() const {
  uint64_t sum = 0;
  for (const auto& [name, count] : happened_) sum += count;
  return sum;
}

void Chaos::run() {
  // The first fault that is not survived ends it all: it may come late.
  wait_for_requests(random_.below(survivable_ ? 30 : 300));
  while (!stop_) {
    step();
    wait_for_requests(random_.below(random_.percent(20) ? 100 : 15));
  }
}

void Chaos::step() {
  const uint64_t what = random_.below(100);
  if (what < 70) {
    fault();
  } else if (what < 78) {
    burst();
  } else if (what < 84) {
    connect_fault();
  } else if (what < 89) {
    server_.drop_all_connections();
    ++happened_["drop_all"];
  } else if (what < 93) {
    if (server_.close_idle_connections() > 0) ++happened_["close_idle"];
  } else if (what < 95) {
    server_.restart();
    ++happened_["restart"];
  } else if (what < 98) {
    outage();
  } else {
    server_.set_request_delay(std::chrono::milliseconds(random_.below(4)));
  }
}

Op Chaos::random_op() {
  return target_.stable_on_reply ? random_.any_of(kStableOps) : random_.any_of(kOps);
}

Fault Chaos::random_fault(std::string& name) {
  const Kind& kind = choose(random_, survivable_);
  name = name_of(kind);
  Fault fault;
  fault.op = random_op();
  fault.nth = 1 + random_.below(random_.percent(70) ? 4 : 20);
  fault.times = kind.weight > 1 && random_.percent(20) ? random_.between(2, 4) : 1;
  fault.action = kind.action;
  fault.status = kind.status;
  fault.early = kind.early;
  fault.body = "an injected fault";
  fault.delay = std::chrono::milliseconds(kind.action == Action::delay ? 50 : 0);
  if (kind.retry_after != nullptr) {
    fault.headers.emplace_back("Retry-After", kind.retry_after);
    fault.retry_after = std::chrono::seconds(*kind.retry_after - '0');
  }
  return fault;
}

void Chaos::fault() {
  std::string name;
  const Fault fault = random_fault(name);
  await(name, fault);
}

void Chaos::await(const std::string& name, const Fault& fault) {
  const uint64_t before = server_.counters().faults_fired;
  server_.add_fault(fault);
  // `times` is how often at most: an error may keep the plugin from coming back.
  (void)server_.wait_until(
      [&](const Counters& c) { return c.faults_fired >= before + fault.times; }, kFaultWait);
  const uint64_t fired = server_.counters().faults_fired - before;
  if (fired > 0) happened_[name] += fired;
  server_.clear_faults();
  const uint64_t late = server_.counters().faults_fired - before - fired;
  if (late > 0) happened_["other"] += late;
}

void Chaos::burst() {
  const uint64_t before = server_.counters().faults_fired;
  const uint64_t count = random_.between(2, 5);
  for (uint64_t i = 0; i < count; ++i) {
    std::string name;
    Fault fault = random_fault(name);
    fault.op = Op::any;
    fault.times = 1;
    server_.add_fault(fault);
  }
  (void)server_.wait_until([&](const Counters& c) { return c.faults_fired >= before + count; },
                           kFaultWait);
  server_.clear_faults();
  const uint64_t fired = server_.counters().faults_fired - before;
  if (fired > 0) happened_["burst"] += fired;
}

// Connections are made seldom: it takes the loss of the old ones.
void Chaos::connect_fault() {
  Fault fault;
  fault.op = Op::connect;
  fault.action = random_.any_of(kConnectActions);
  fault.times = fault.action == Action::no_handshake ? 1 : random_.between(1, 4);
  fault.delay = std::chrono::milliseconds(fault.action == Action::delay ? 50 : 0);
  server_.drop_all_connections();
  ++happened_["drop_all"];
  await("connect_" + std::string(testserver::name_of(fault.action)), fault);
}

void Chaos::outage() {
  const auto length = std::chrono::milliseconds(random_.between(20, 400));
  const bool refuses = random_.percent(70);
  if (refuses)
    server_.stop_listening();
  else
    server_.pause_accepting();
  server_.drop_all_connections();
  ++happened_[refuses ? "outage" : "outage_of_accept"];
  std::this_thread::sleep_for(length);
  if (refuses)
    server_.resume_listening();
  else
    server_.resume_accepting();
}

void Chaos::wait_for_requests(uint64_t more) {
  const uint64_t target = server_.counters().total_requests() + more;
  (void)server_.wait_until([&](const Counters& c) { return c.total_requests() >= target; },
                           kFaultWait);
}

}  // namespace upload::soak
