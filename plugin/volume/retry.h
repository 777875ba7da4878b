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
#include "volume/verdict.h"

namespace upload::volume {

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
  // `purpose`: what is repeated.
  Retry(Clock& clock, Purpose purpose, const Limits& limits)
      : clock_(clock), purpose_(purpose), limits_(limits) {}

  [[nodiscard]] Purpose purpose() const { return purpose_; }
  // A different time, or another server state, may make it succeed.
  [[nodiscard]] bool worthwhile(const Status& failure) const {
    return verdict(failure.kind(), purpose_).repeat;
  }

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
  const Purpose purpose_;
  const Limits limits_;
  unsigned failures_ = 0;
  TimePoint first_;
};

}  // namespace upload::volume
