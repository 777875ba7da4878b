// SPDX-License-Identifier: BSD-3-Clause
//
// What all connections of a server share.

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

#include "blob.h"
#include "counter_board.h"
#include "fault_plan.h"
#include "late_applier.h"
#include "options.h"
#include "ticket.h"

namespace upload::testserver {

/// A duration that tests may change at any time.
using Knob = std::atomic<std::chrono::milliseconds>;

/// Thread safe: every member is, by itself.
class ServerState {
 public:
  explicit ServerState(ServerOptions given)
      : options(std::move(given)),
        board(options.event_limit),
        request_delay(options.request_delay),
        idle_close(options.idle_close),
        late_apply(options.late_apply),
        require_authorization_(options.require_authorization),
        azure_sas_(options.azure.sas) {}

  [[nodiscard]] std::string require_authorization() const {
    const std::lock_guard lock(mutex_);
    return require_authorization_;
  }
  void set_require_authorization(std::string value) {
    const std::lock_guard lock(mutex_);
    require_authorization_ = std::move(value);
  }
  [[nodiscard]] std::string azure_sas() const {
    const std::lock_guard lock(mutex_);
    return azure_sas_;
  }
  void set_azure_sas(std::string query) {
    const std::lock_guard lock(mutex_);
    azure_sas_ = std::move(query);
  }

  const ServerOptions options;  // what was given; the knobs below may have moved on
  CounterBoard board;
  FaultPlan faults;
  TicketStore tickets;
  LateApplier late_applier;
  Blobs blobs;
  Knob request_delay;
  Knob idle_close;
  Knob late_apply;
  // Counts calls of release_stalled(): who stalls waits for the next one.
  std::atomic<std::uint64_t> releases{0};

 private:
  mutable std::mutex mutex_;  // protects all below
  std::string require_authorization_;
  std::string azure_sas_;
};

}  // namespace upload::testserver
