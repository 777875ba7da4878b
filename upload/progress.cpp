// SPDX-License-Identifier: BSD-3-Clause
//
// nbdcopy tells whole percents, so the rate is taken over some of them: at least two, and
// those of the last half a minute.

#include "progress.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace nbdupload {

namespace {

constexpr std::chrono::seconds kWindow{30};

}  // namespace

void Progress::set_percent(int percent, Time now) {
  percent = std::clamp(percent, 0, 100);
  if (percent <= percent_) return;
  percent_ = percent;
  steps_.emplace_back(now, percent);
  while (steps_.size() > 2 && now - steps_[1].first > kWindow) steps_.pop_front();
}

std::optional<double> Progress::rate(Time now) const {
  if (steps_.empty() || now <= steps_.front().first) return std::nullopt;
  const uint64_t moved = done() - bytes(steps_.front().second);
  if (moved == 0) return std::nullopt;
  return static_cast<double>(moved) /
         std::chrono::duration<double>(now - steps_.front().first).count();
}

std::optional<std::chrono::seconds> Progress::left(Time now) const {
  const std::optional<double> bytes_a_second = rate(now);
  if (!bytes_a_second) return std::nullopt;
  const double seconds = static_cast<double>(size_ - done()) / *bytes_a_second;
  return std::chrono::seconds(std::llround(seconds));
}

std::chrono::seconds Progress::elapsed(Time now) const {
  return std::chrono::duration_cast<std::chrono::seconds>(now - begun_);
}

std::string shown_bytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  char text[32];
  snprintf(text, sizeof text, "%.*f %s", unit > 0 && bytes < 9.95 ? 1 : 0, bytes, kUnits[unit]);
  return text;
}

std::string shown_time(std::chrono::seconds time) {
  const long long seconds = std::max<long long>(time.count(), 0);
  char text[32];
  if (seconds < 3600)
    snprintf(text, sizeof text, "%lld:%02lld", seconds / 60, seconds % 60);
  else
    snprintf(text, sizeof text, "%lld:%02lld:%02lld", seconds / 3600, seconds / 60 % 60,
             seconds % 60);
  return text;
}

}  // namespace nbdupload
