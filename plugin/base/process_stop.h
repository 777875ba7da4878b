// SPDX-License-Identifier: BSD-3-Clause
//
// What a stop of the whole process (SIGSTOP, a suspended machine) does to waits: time
// passes in which nobody could do anything, and then all are late at once.

#pragma once

#include <optional>
#include <utility>

#include "base/clock.h"

namespace upload {

// Who wakes up later than this has not been slow: the process has been stopped. What was
// waited for may well have come meanwhile.
inline constexpr Duration kStopped = std::chrono::seconds(1);

// One wait that is given up at some time, which may move while it lasts. A stop may have
// ended at just that time, so the others get a moment more to do what is waited for.
class LastLook {
 public:
  // Until when to wait now; nothing: it is time to give up.
  [[nodiscard]] std::optional<TimePoint> wait_until(TimePoint give_up, TimePoint now) {
    if (now < give_up) {
      looks_ = false;
      return give_up;
    }
    if (std::exchange(looks_, true)) return std::nullopt;
    return now + kStopped;
  }

 private:
  bool looks_ = false;
};

}  // namespace upload
