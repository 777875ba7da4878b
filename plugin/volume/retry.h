// SPDX-License-Identifier: BSD-3-Clause
//
// Retry: whether, and after how long, something is tried again.
//
// The first repetition comes at once: a connection may just have been closed
// by a server that is well. Later ones back off exponentially, with jitter,
// and not before the server has said. One thread.

#pragma once

#include <optional>

#include "base/clock.h"
#include "base/status.h"

namespace upload::volume {

// After this failure of a change: may the server yet apply it?
[[nodiscard]] bool fate_is_unknown(const Status& failure);

class Retry {
 public:
  static constexpr Duration kLongest = std::chrono::seconds(5);

  // From the first failure on, for `total` at most, with pauses of `longest`
  // at most.
  Retry(Clock& clock, Duration total, Duration longest = kLongest)
      : clock_(clock), total_(total), longest_(longest) {}

  // A different time, or another server state, may make it succeed.
  [[nodiscard]] static bool worthwhile(const Status& failure);

  // When to try again after this failure; nothing: give up.
  [[nodiscard]] std::optional<TimePoint> next(const Status& failure);

  // Since the first failure.
  [[nodiscard]] Duration elapsed() const;

 private:
  Clock& clock_;
  const Duration total_;
  const Duration longest_;
  unsigned failures_ = 0;
  TimePoint first_;
};

}  // namespace upload::volume
