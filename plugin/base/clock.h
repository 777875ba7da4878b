// SPDX-License-Identifier: BSD-3-Clause
//
// Clock: what time it is, and waiting until it is later. Everything that
// waits for time to pass takes a Clock, so that a test can pass time by hand.
// Thread safe.

#pragma once

#include <time.h>

#include <chrono>

#include "base/mutex.h"

namespace upload {

using Duration = std::chrono::steady_clock::duration;
using TimePoint = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::system_clock::time_point;

// The machine's time since it was started, which goes on while it is suspended (CLOCK_BOOTTIME,
// clock_gettime(2)): for what others count on their clocks meanwhile. A type of its own, so that
// the two can't be mixed up.
struct BootClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock>;
  static constexpr bool is_steady = true;
  static time_point now() noexcept {
    timespec time = {};
    clock_gettime(CLOCK_BOOTTIME, &time);
    return time_point(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
  }
};
using BootTime = BootClock::time_point;

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
  [[nodiscard]] virtual BootTime boot_now() const = 0;
  // Waits until `when`, or until `condition` is notified, or spuriously.
  virtual void wait_until(CondVar& condition, Mutex& mutex, TimePoint when) REQUIRES(mutex) = 0;

  void sleep_until(TimePoint when) {
    Mutex mutex;
    CondVar nothing;
    MutexLock lock(mutex);
    while (now() < when) wait_until(nothing, mutex, when);
  }
};

// The clocks of the machine.
class SteadyClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return std::chrono::steady_clock::now(); }
  [[nodiscard]] WallTime wall_now() const override { return std::chrono::system_clock::now(); }
  [[nodiscard]] BootTime boot_now() const override { return BootClock::now(); }
  void wait_until(CondVar& condition, Mutex& mutex, TimePoint when) override REQUIRES(mutex) {
    condition.wait_until(mutex, when);
  }
};

}  // namespace upload
