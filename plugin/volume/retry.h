// SPDX-License-Identifier: BSD-3-Clause
//
// Retry: whether, and after how long, something is tried again.
//
// The first repetition comes at once: a connection may just have been closed
// by a server that is well. Later ones back off exponentially, with jitter,
// and not before the server has said (Retry-After), as far as that is sane.
// One thread.

#pragma once

#include <algorithm>
#include <optional>

#include "base/clock.h"
#include "base/status.h"

namespace upload::volume {

// After this failure of a change: may the server yet apply it?
[[nodiscard]] bool fate_is_unknown(const Status& failure);

// Of a failure to bring what was acknowledged to the server: memory that is short for that
// passes like an outage, while it would fail a request that has promised nothing.
[[nodiscard]] inline Status memory_passes(const Status& failure) {
  return failure.kind() == Kind::kNoMemory ? Status(Kind::kUnavailable, failure.text()) : failure;
}

class Retry {
 public:
  static constexpr Duration kLongestPause = std::chrono::seconds(5);
  // Of what a server asks for; one that is well again is not left alone for an
  // hour because it was busy for a moment.
  static constexpr Duration kLongestAsked = std::chrono::seconds(60);
  // However often something else succeeds, it is given up after so many times
  // Limits::total.
  static constexpr int kMostTimes = 10;
  // However short Limits::total is beside the time that an attempt may take,
  // so many attempts are made.
  static constexpr unsigned kFewestAttempts = 4;

  struct Limits {
    // For how long, since the first failure, or since anything has succeeded.
    Duration total;
    // Between two attempts, at most.
    Duration pause = kLongestPause;
    // The most that is done of what the server asks for.
    Duration asked = kLongestAsked;
  };
  Retry(Clock& clock, const Limits& limits) : clock_(clock), limits_(limits) {}

  // A different time, or another server state, may make it succeed.
  [[nodiscard]] static bool worthwhile(const Status& failure);

  // When to try again after this failure; nothing: give up. `last_success`: when
  // anything of the same kind has last succeeded.
  [[nodiscard]] std::optional<TimePoint> next(const Status& failure,
                                              TimePoint last_success = TimePoint::min());
  // The process was stopped until then (SIGSTOP, a suspended machine): what was
  // before does not count.
  void forget_before(TimePoint when) { first_ = std::max(first_, when); }

  // Since the first failure.
  [[nodiscard]] Duration elapsed() const;

 private:
  Clock& clock_;
  const Limits limits_;
  unsigned failures_ = 0;
  TimePoint first_;
};

}  // namespace upload::volume
