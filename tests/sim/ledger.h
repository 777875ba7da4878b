// SPDX-License-Identifier: BSD-3-Clause
//
// Ledgers: a model of where claims are kept, with leases that run out, requests whose replies are
// lost, and times in which the process can't reach it. And a rival: another uploader, who takes
// over whatever is not held, and gives it back after a while.
//
// It outlives the plugin's lives. What the rival does are events of the scheduler.

#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "claim/ledger.h"
#include "sim/scheduler.h"

namespace upload::sim {

class Ledgers {
 public:
  // In a thousand requests: the reply is lost, after the request was done or before.
  uint64_t lost = 0;
  Duration latency = std::chrono::milliseconds(2);
  static constexpr Duration kLease = std::chrono::seconds(30);

  // The ledger of one volume, for a process.
  [[nodiscard]] std::unique_ptr<claim::Ledger> open(const std::string& volume);
  // Nobody of the process reaches it for so long.
  void go_away(Duration time);
  // The rival takes what is not held, and has it for so long.
  void rival_tries(Duration time);

  // The plugin may send something to the volume now.
  [[nodiscard]] bool is_plugins(const std::string& volume) const;
  // When the rival has last got it; nothing: never.
  [[nodiscard]] std::optional<TimePoint> rival_since(const std::string& volume) const;
  [[nodiscard]] uint64_t faults() const { return faults_; }

 private:
  friend class SimLedger;
  struct Entry {
    std::optional<claim::Record> record;
    uint64_t version = 0;
    std::string holder;  // an owner's id
    TimePoint lease_end{};
    std::optional<TimePoint> rival_since;

    [[nodiscard]] bool held() const { return !holder.empty() && scheduler().now() < lease_end; }
  };

  std::map<std::string, Entry> entries_;
  TimePoint away_until_{};
  uint64_t faults_ = 0;
};

}  // namespace upload::sim
