// SPDX-License-Identifier: BSD-3-Clause
//
// Few at any time: one for each request that has failed lately. So they are
// looked through one by one.

#include "volume/late_copies.h"

#include <algorithm>

namespace upload::volume {

void LateCopies::add(ByteRange range, uint64_t first, uint64_t last, TimePoint until) {
  for (Copy& copy : copies_) {
    if (copy.range == range && copy.first == first && copy.last == last) {
      copy.until = std::max(copy.until, until);
      return;
    }
  }
  copies_.push_back({range, first, last, until});
}

std::optional<TimePoint> LateCopies::until(ByteRange range, uint64_t change, TimePoint now) {
  if (copies_.empty()) return std::nullopt;
  std::erase_if(copies_, [&](const Copy& copy) { return copy.until <= now; });
  std::optional<TimePoint> latest;
  for (const Copy& copy : copies_) {
    if (!copy.range.overlaps(range) || (change >= copy.first && change <= copy.last)) continue;
    latest = std::max(latest.value_or(copy.until), copy.until);
  }
  return latest;
}

}  // namespace upload::volume
