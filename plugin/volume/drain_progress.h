// SPDX-License-Identifier: BSD-3-Clause
//
// DrainProgress: how the server takes what is in the spool, and so for how long others wait
// for that. Whoever waits gives up when it has taken nothing for the retry time, and some
// attempts have failed in it, however long one may take.
//
// A data structure without threads: its owner guards it.

#pragma once

#include <algorithm>
#include <cassert>
#include <optional>

#include "base/clock.h"

namespace upload::volume {

class DrainProgress {
 public:
  // An attempt that began then has failed. Those that are under way at the same time count as
  // one: they all tell of the same moment. True: somebody who waits may have an end to it now.
  bool failed(TimePoint began, TimePoint now, unsigned fewest_attempts) {
    if (!failing_since_)
      failing_since_ = now;
    else if (began < last_failure_)
      return false;
    last_failure_ = now;
    return ++failed_attempts_ <= fewest_attempts;
  }
  // The server has taken something, or there is nothing to be taken.
  void succeeded() {
    failing_since_.reset();
    failed_attempts_ = 0;
  }
  // Until then nothing is sent because late copies may come: that is no failure.
  void hold_back(TimePoint until) { held_back_until_ = until; }

  // The server is left alone until then at least.
  void leave_alone(TimePoint until) { next_attempt_ = std::max(next_attempt_, until); }
  [[nodiscard]] TimePoint next_attempt() const { return next_attempt_; }

  // Since when every attempt has failed; nothing: none has since the last success.
  [[nodiscard]] std::optional<TimePoint> failing_since() const { return failing_since_; }
  [[nodiscard]] unsigned failed_attempts() const { return failed_attempts_; }
  [[nodiscard]] TimePoint held_back_until() const { return held_back_until_; }

  // When somebody who began to wait at `start` has seen it fail for so long; never, while it
  // does not fail.
  [[nodiscard]] TimePoint given_up_at(TimePoint start, Duration failing) const {
    if (!failing_since_) return TimePoint::max();
    return std::max({start, *failing_since_, held_back_until_}) + failing;
  }

  void check() const { assert(failed_attempts_ == 0 || failing_since_); }

 private:
  std::optional<TimePoint> failing_since_;
  TimePoint last_failure_;  // of those that count
  unsigned failed_attempts_ = 0;
  TimePoint held_back_until_ = TimePoint::min();
  TimePoint next_attempt_ = TimePoint::min();
};

}  // namespace upload::volume
