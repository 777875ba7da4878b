// SPDX-License-Identifier: BSD-3-Clause
//
// Few at any time: one for each request that has failed lately. So they are
// looked through one by one.

#include "volume/late_copies.h"

#include <algorithm>

namespace upload::volume {

namespace {

bool contains(ByteRange whole, ByteRange part) {
  return part.offset >= whole.offset && part.end() <= whole.end();
}

}  // namespace

void LateCopies::add(ByteRange range, ByteRange own, uint64_t sequence, TimePoint now) {
  for (Copy& copy : copies_) {
    if (copy.range != range || copy.own != own || copy.first != sequence || copy.last != sequence)
      continue;
    copy.failed = now;
    if (copy.until != kUnknown) ++unknown_;
    copy.until = kUnknown;
    return;
  }
  copies_.push_back({range, own, sequence, sequence, now, kUnknown});
  ++unknown_;
}

void LateCopies::add_until(ByteRange range, uint64_t first, uint64_t last, TimePoint until) {
  copies_.push_back({range, range, first, last, TimePoint::min(), until});
}

bool LateCopies::answered(TimePoint began, TimePoint now) {
  if (unknown_ == 0) return false;
  bool more = false;
  for (Copy& copy : copies_) {
    if (copy.until != kUnknown || copy.failed > began) continue;
    copy.until = now + time_out_;
    --unknown_;
    more = true;
  }
  return more;
}

void LateCopies::forget_old(TimePoint now) {
  std::erase_if(copies_, [&](const Copy& copy) { return copy.until <= now; });
}

std::optional<TimePoint> LateCopies::until(ByteRange range, uint64_t sequence, TimePoint now) {
  if (copies_.empty()) return std::nullopt;
  forget_old(now);
  std::optional<TimePoint> latest;
  for (const Copy& copy : copies_) {
    if (!copy.range.overlaps(range)) continue;
    const bool the_same = sequence > 0 && sequence >= copy.first && sequence <= copy.last;
    if (the_same && contains(copy.own, intersection(copy.range, range))) continue;
    latest = std::max(latest.value_or(copy.until), copy.until);
  }
  return latest;
}

std::optional<TimePoint> LateCopies::last(TimePoint now) {
  forget_old(now);
  std::optional<TimePoint> latest;
  for (const Copy& copy : copies_) latest = std::max(latest.value_or(copy.until), copy.until);
  return latest;
}

}  // namespace upload::volume
