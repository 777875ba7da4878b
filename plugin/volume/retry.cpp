// SPDX-License-Identifier: BSD-3-Clause
//
// Exponential backoff: 0, then 0.1 s doubled each time up to 5 s, each
// multiplied by a random number from 0.5 to 1.

#include "volume/retry.h"

#include <algorithm>

#include "base/random.h"

namespace upload::volume {

namespace {

constexpr Duration kFirst = std::chrono::milliseconds(100);
constexpr unsigned kDoublings = 6;

}  // namespace

std::optional<TimePoint> Retry::next(const Status& failure, TimePoint last_success) {
  if (!worthwhile(failure)) return std::nullopt;
  const TimePoint now = clock_.now();
  const Duration asked = std::min<Duration>(failure.retry_after(), limits_.asked);
  if (failures_++ == 0) {
    first_ = now;
    return std::min(now + asked, first_ + limits_.total);
  }
  const TimePoint give_up = std::min(std::max(first_, last_success) + limits_.total,
                                     first_ + kMostTimes * limits_.total);
  const bool few = failures_ < kFewestAttempts;
  if (now >= give_up && !few) return std::nullopt;
  const unsigned doublings = std::min(failures_ - 2, kDoublings);
  const Duration backoff = std::min(limits_.pause, kFirst * (1 << doublings));
  const auto wait = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(backoff) *
                                                         random_between(0.5, 1));
  // The last try is at the end of the time, not after it.
  const TimePoint next = now + std::max(wait, asked);
  return few ? next : std::min(next, give_up);
}

Duration Retry::elapsed() const {
  return failures_ == 0 ? Duration::zero() : clock_.now() - first_;
}

}  // namespace upload::volume
