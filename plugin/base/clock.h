// SPDX-License-Identifier: BSD-3-Clause
//
// Clock: what time it is, and waiting until it is later. Everything that
// waits for time to pass takes a Clock, so that a test can pass time by hand.
// Thread safe.

#pragma once

#include <chrono>

#include "base/mutex.h"

namespace upload {

using Duration = std::chrono::steady_clock::duration;
using TimePoint = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::system_clock::time_point;

// Whole seconds, for texts.
[[nodiscard]] inline long long seconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
}

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual TimePoint now() const = 0;
  // The time of day, for what outlives the process.
  [[nodiscard]] virtual WallTime wall_now() const = 0;
  // Waits until `when`, or until `condition` is notified, or spuriously.
  virtual void wait_until(CondVar& condition, Mutex& mutex, TimePoint when) REQUIRES(mutex) = 0;

  void sleep_until(TimePoint when) {
    Mutex mutex;
    CondVar nothing;
    MutexLock lock(mutex);
    while (now() < when) wait_until(nothing, mutex, when);
  }
};

// The monotonic clock of the machine.
class SteadyClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return std::chrono::steady_clock::now(); }
  [[nodiscard]] WallTime wall_now() const override { return std::chrono::system_clock::now(); }
  void wait_until(CondVar& condition, Mutex& mutex, TimePoint when) override REQUIRES(mutex) {
    condition.wait_until(mutex, when);
  }
};

}  // namespace upload
