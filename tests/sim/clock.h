// SPDX-License-Identifier: BSD-3-Clause
//
// SimClock: the scheduler's virtual time as the plugin's Clock.

#pragma once

#include "base/clock.h"
#include "sim/scheduler.h"

namespace upload::sim {

class SimClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return scheduler().now(); }
  // The time of day runs with the other, and may have been set meanwhile.
  [[nodiscard]] WallTime wall_now() const override {
    return WallTime(
        std::chrono::duration_cast<WallTime::duration>(scheduler().now().time_since_epoch()) +
        std::chrono::hours(24 * 365 * 50));
  }
  // Time in which the process is stopped counts.
  [[nodiscard]] BootTime boot_now() const override {
    return BootTime(scheduler().now().time_since_epoch());
  }
  void wait_until(CondVar& condition, Mutex& mutex, TimePoint when) override REQUIRES(mutex) {
    condition.wait_until(mutex, when);
  }
};

}  // namespace upload::sim
