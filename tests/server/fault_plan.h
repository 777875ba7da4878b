// SPDX-License-Identifier: BSD-3-Clause
//
// The schedule of faults: which request meets which one.

#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fault.h"

namespace upload::testserver {

/// A fault that fired; shared because the plan may be cleared while it takes effect.
using FiredFault = std::shared_ptr<const Fault>;

/// Thread safe.
class FaultPlan {
 public:
  void add(Fault fault);
  void clear();

  /// Counts one request for every fault that it matches, and returns the first fault
  /// that is due, or null. Called exactly once for each request or connection.
  [[nodiscard]] FiredFault match(Op op, const std::string& ticket);

 private:
  struct Entry {
    FiredFault fault;
    std::uint64_t seen = 0;  // matching requests so far
  };

  std::mutex mutex_;  // protects entries_
  std::vector<Entry> entries_;
};

}  // namespace upload::testserver
