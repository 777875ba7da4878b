// SPDX-License-Identifier: BSD-3-Clause
//
// Counting, and waiting for counts.
//
// Tests must not sleep and hope; they wait here for what they expect to see. Every
// change of a counter wakes all who wait, so a wait ends as soon as its condition holds.
// A reader sees all counters as of one moment.
//
// Threads: any. One mutex covers counters and log; nothing is called with it held but
// the caller's predicate or change, which must not come back here.
//
// It does not decide what is counted; see counters.h and the places that call update().

#include "counter_board.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace upload::testserver {

void CounterBoard::log(Event event) {
  if (event_limit_ == 0) {
    return;
  }
  const std::lock_guard lock(mutex_);
  if (events_.size() < event_limit_) {
    events_.push_back(std::move(event));
  }
}

Counters CounterBoard::snapshot() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

std::vector<Event> CounterBoard::events() const {
  const std::lock_guard lock(mutex_);
  return events_;
}

bool CounterBoard::wait_until(const std::function<bool(const Counters&)>& predicate,
                              std::chrono::milliseconds deadline) const {
  const auto end = std::chrono::steady_clock::now() + deadline;
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, end, [&] { return predicate(counters_); });
}

std::string to_json(const Counters& counters) {
  nlohmann::ordered_json requests;
  for (std::size_t i = 0; i < kOpCount; ++i) {
    const Op op = static_cast<Op>(i);
    if (op != Op::any && op != Op::connect) {
      requests[std::string(name_of(op))] = counters.requests[i];
    }
  }
  const nlohmann::ordered_json json = {
      {"connections_accepted", counters.connections_accepted},
      {"connections_open", counters.connections_open},
      {"max_connections_open", counters.max_connections_open},
      {"tls_handshakes", counters.tls_handshakes},
      {"tls_handshake_failures", counters.tls_handshake_failures},
      {"requests", requests},
      {"active_requests", counters.active_requests},
      {"max_active_requests", counters.max_active_requests},
      {"stalled", counters.stalled},
      {"replies", counters.replies},
      {"error_replies", counters.error_replies},
      {"bytes_put", counters.bytes_put},
      {"bytes_zeroed", counters.bytes_zeroed},
      {"bytes_got", counters.bytes_got},
      {"changes", counters.changes},
      {"flushes", counters.flushes},
      {"overlapping_changes", counters.overlapping_changes},
      {"bytes_lost", counters.bytes_lost},
      {"late_applied", counters.late_applied},
      {"late_refused", counters.late_refused},
      {"faults_fired", counters.faults_fired},
  };
  return json.dump();
}

}  // namespace upload::testserver
