// SPDX-License-Identifier: BSD-3-Clause
//
// Health: whether a volume takes requests at all, and since when its server is away.
//
// An error that has latched stays: every request fails with it. At the end of the process
// everything fails, and nothing follows from it any more.
//
// A data structure without threads: its owner guards it.

#pragma once

#include <cassert>
#include <cstdint>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/status.h"

namespace upload::volume {

class Health {
 public:
  // The error that every request fails with; nothing: none.
  [[nodiscard]] const std::optional<Status>& latched() const { return latched_; }
  [[nodiscard]] bool stopping() const { return stopping_; }
  // Whatever is waited for will not come.
  [[nodiscard]] bool over() const { return latched_ || stopping_; }

  void latch(const Status& error) {
    assert(!latched_);
    latched_ = error;
  }
  void stop() { stopping_ = true; }

  [[nodiscard]] bool in_outage() const { return outage_since_.has_value(); }
  void begin_outage(TimePoint now) {
    outage_since_ = now;
    ++outages_;
  }
  // How long it was. There was one.
  Duration end_outage(TimePoint now) {
    const Duration outage = now - *std::exchange(outage_since_, std::nullopt);
    ended_outages_time_ += outage;
    return outage;
  }
  // Of all outages, with the one that lasts.
  [[nodiscard]] uint64_t outages() const { return outages_; }
  [[nodiscard]] Duration outage_time(TimePoint now) const {
    return ended_outages_time_ + (outage_since_ ? now - *outage_since_ : Duration::zero());
  }

 private:
  std::optional<Status> latched_;
  bool stopping_ = false;
  std::optional<TimePoint> outage_since_;
  uint64_t outages_ = 0;
  Duration ended_outages_time_{0};
};

}  // namespace upload::volume
