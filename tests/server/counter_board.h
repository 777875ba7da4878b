// SPDX-License-Identifier: BSD-3-Clause
//
// The counters that all threads write and tests wait for, and the event log.

#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <vector>

#include "counters.h"

namespace upload::testserver {

/// Thread safe.
class CounterBoard {
 public:
  explicit CounterBoard(std::size_t event_limit) : event_limit_(event_limit) {}

  /// Runs `change` with the counters locked, then wakes those who wait. `change` must be
  /// short and must not use the board.
  template <class Change>
  void update(Change change) {
    {
      const std::lock_guard lock(mutex_);
      change(counters_);
    }
    changed_.notify_all();
  }

  /// Appends to the log unless it is full.
  void log(Event event);

  [[nodiscard]] Counters snapshot() const;
  [[nodiscard]] std::vector<Event> events() const;
  [[nodiscard]] bool wait_until(const std::function<bool(const Counters&)>& predicate,
                                std::chrono::milliseconds deadline) const;

 private:
  const std::size_t event_limit_;

  mutable std::mutex mutex_;  // protects all below
  mutable std::condition_variable changed_;
  Counters counters_;
  std::vector<Event> events_;
};

}  // namespace upload::testserver
