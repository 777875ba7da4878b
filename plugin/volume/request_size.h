// SPDX-License-Identifier: BSD-3-Clause
//
// RequestSize: how much data goes in one request with write-back, learned from how long requests
// take.
//
// Where the server takes long to answer, what goes in one request costs one delay: so requests
// become larger until most of their time is not the delay, for which the time of the shortest one
// stands. Where there is next to none they stay small: large ones gain nothing there, and their
// content has left the processor's caches when it is sent, at both ends. They never keep a
// connection from other volumes for long, and one that has failed is a reason to send less: less is
// lost with it, and something on the way may not take as much.
//
// A data structure without threads: its owner guards it.

#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace upload::volume {

class RequestSize {
 public:
  // A request that takes longer than this is larger than it should be.
  static constexpr Duration kLongest = std::chrono::milliseconds(500);
  // One that takes so many times the delay is large enough.
  static constexpr int kDelays = 5;
  static constexpr uint64_t kLargest = uint64_t{64} << 20;

  // Bytes: `least` is what always goes, and the size to begin with.
  RequestSize(uint64_t least, uint64_t most)
      : least_(least), most_(std::max(least, std::min(most, kLargest))), now_(least) {}

  [[nodiscard]] uint64_t least() const { return least_; }
  [[nodiscard]] uint64_t now() const { return now_; }
  // A request costs mostly a delay, so that one less is worth something.
  [[nodiscard]] bool is_delayed() const { return now_ > least_; }

  // A request of so many bytes has succeeded. If it was as large as it might be, the next may be as
  // much larger as it would then take long enough, but not more than four times. Others that were
  // under way may have slowed it down, so one that took twice as long is still right.
  void succeeded(uint64_t bytes, Duration took) {
    took = std::max(took, Duration(1));
    shortest_ = std::min(shortest_, took);
    const Duration enough = shortest_ > kLongest / kDelays ? kLongest : shortest_ * kDelays;
    if (took > std::min(kLongest, 2 * enough))
      now_ = std::max(least_, now_ / 2);
    else if (bytes > now_ / 2 && took < enough)
      now_ = std::min<uint64_t>(most_, now_ * std::min<int64_t>(4, enough / took));
  }
  // A request of so many bytes has failed: none will be more than half as large, but for a change
  // that is larger by itself. Several that fail together, as where a server goes away, count once.
  void failed(uint64_t bytes) {
    most_ = std::max(least_, std::min(most_, bytes / 2));
    now_ = std::min(now_, most_);
  }

 private:
  const uint64_t least_;
  uint64_t most_;
  uint64_t now_;
  Duration shortest_ = Duration::max();
};

}  // namespace upload::volume
