// SPDX-License-Identifier: BSD-3-Clause
//
// Two kinds of trees: the segments by offset, and, for each connection, the ages
// of its segments. Only add() and remove() change them, both kinds together.

#include "journal/segment_map.h"

#include <algorithm>
#include <cassert>

namespace upload::journal {

SegmentMap::Segments::const_iterator SegmentMap::first_after(uint64_t offset) const {
  if (found_ && found_->first == offset) return found_->second;
  // Segments don't overlap: only the last one that begins at `offset` or before
  // may begin before it and end after it.
  auto it = segments_.upper_bound(offset);
  if (it != segments_.begin() && look(std::prev(it)->second).range.end() > offset) --it;
  found_.emplace(offset, it);
  return it;
}

void SegmentMap::add(Segment segment) {
  ++looked_at_;
  const uint64_t offset = segment.range.offset;
  assert(segment.range.length > 0);
  const auto next = first_after(offset);
  assert(next == segments_.end() || next->second.range.offset >= segment.range.end());
  bytes_ += segment.range.length;
  // The youngest, but for what is cut.
  Ages& ages = ages_[segment.connection];
  ages.emplace_hint(ages.end(), segment.since, offset);
  found_.reset();
  segments_.emplace_hint(next, offset, std::move(segment));
}

SegmentMap::Segments::const_iterator SegmentMap::remove(Segments::const_iterator it) {
  const Segment& segment = look(it->second);
  const auto ages = ages_.find(segment.connection);
  ages->second.erase({segment.since, segment.range.offset});
  if (ages->second.empty()) ages_.erase(ages);
  bytes_ -= segment.range.length;
  found_.reset();
  return segments_.erase(it);
}

void SegmentMap::erase(ByteRange range) {
  if (segments_.empty()) return;
  std::vector<Segment> rests;  // two at most: of the first and of the last segment
  const auto keep = [&](const Segment& segment, uint64_t begin, uint64_t end) {
    if (begin < end)
      rests.push_back({{begin, end - begin},
                       segment.record,
                       segment.connection,
                       segment.since,
                       segment.hidden_since});
  };
  auto it = first_after(range.offset);
  while (it != segments_.end() && it->second.range.offset < range.end()) {
    const Segment& segment = it->second;
    keep(segment, segment.range.offset, range.offset);
    keep(segment, range.end(), segment.range.end());
    it = remove(it);
  }
  for (Segment& rest : rests) add(std::move(rest));
}

std::vector<Segment> SegmentMap::take(ConnectionId connection) {
  std::vector<Segment> taken;
  const auto ages = ages_.find(connection);
  if (ages == ages_.end()) return taken;
  taken.reserve(ages->second.size());
  found_.reset();
  for (const auto& [since, offset] : ages->second) {
    const auto it = segments_.find(offset);
    bytes_ -= look(it->second).range.length;
    taken.push_back(std::move(it->second));
    segments_.erase(it);
  }
  ages_.erase(ages);
  return taken;
}

std::optional<uint64_t> SegmentMap::oldest() const {
  std::optional<uint64_t> oldest;
  for (const auto& [connection, ages] : ages_)
    oldest = std::min(oldest.value_or(UINT64_MAX), ages.begin()->first);
  return oldest;
}

std::optional<uint64_t> SegmentMap::oldest(ConnectionId connection) const {
  const auto ages = ages_.find(connection);
  return ages == ages_.end() ? std::nullopt : std::optional(ages->second.begin()->first);
}

const Segment* SegmentMap::first_from(uint64_t offset) const {
  const auto it = first_after(offset);
  return it == segments_.end() ? nullptr : &look(it->second);
}

}  // namespace upload::journal
