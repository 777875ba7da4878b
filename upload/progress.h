// SPDX-License-Identifier: BSD-3-Clause
//
// Progress: how far the copy of a disk is, and what is known from that. A value.

#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>

namespace nbdupload {

class Progress {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Progress() = default;
  // A copy of `size` bytes begins.
  Progress(uint64_t size, Time now) : size_(size), begun_(now), steps_{{now, 0}} {}

  void set_percent(int percent, Time now);

  [[nodiscard]] int percent() const { return percent_; }
  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] uint64_t done() const { return bytes(percent_); }
  // Bytes a second, over the last steps; nothing: it is too early to tell.
  [[nodiscard]] std::optional<double> rate(Time now) const;
  [[nodiscard]] std::optional<std::chrono::seconds> left(Time now) const;
  [[nodiscard]] std::chrono::seconds elapsed(Time now) const;

 private:
  [[nodiscard]] uint64_t bytes(int percent) const {
    return size_ / 100 * static_cast<uint64_t>(percent) +
           size_ % 100 * static_cast<uint64_t>(percent) / 100;
  }

  uint64_t size_ = 0;
  Time begun_;
  int percent_ = 0;
  std::deque<std::pair<Time, int>> steps_;  // the first is the oldest that counts
};

// "1.5 GiB", "640 KiB": three digits and the unit.
[[nodiscard]] std::string shown_bytes(double bytes);
// "0:07", "1:02:33"
[[nodiscard]] std::string shown_time(std::chrono::seconds time);

}  // namespace nbdupload
