// SPDX-License-Identifier: BSD-3-Clause
//
// The log is a pair of interval maps from bytes to the record with their newest
// content. Ranges are split, joined and looked up by Boost.ICL.

#include "journal/replay_log.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <set>

namespace upload::journal {

namespace {

template <typename Interval>
ByteRange range_of(const Interval& interval) {
  return {interval.lower(), interval.upper() - interval.lower()};
}

}  // namespace

Record::~Record() {
  if (data) memory->give_back(std::move(data), range.length);
  if (memory) memory->unreserve(cost);
}

uint64_t ReplayLog::cost(uint64_t bytes) {
  constexpr uint64_t kOverhead = 512;  // of map and record, about
  return kOverhead + (bytes == 0 ? 0 : Memory::capacity(bytes));
}

RecordPtr ReplayLog::make_record(const std::shared_ptr<Memory>& memory, ByteRange range,
                                 uint64_t change, const void* data) {
  auto record = std::make_shared<Record>();
  record->range = range;
  record->change = change;
  record->zero = data == nullptr;
  if (data != nullptr) {
    record->data = memory->take(range.length);
    memcpy(record->data.get(), data, range.length);
  }
  record->cost = cost(data == nullptr ? 0 : range.length);
  record->memory = memory;
  return record;
}

RecordPtr ReplayLog::make_record(const SpoolRow& row) {
  auto record = std::make_shared<Record>();
  record->range = row.range;
  record->change = row.sequence;
  record->row = row.id;
  record->zero = row.zero;
  return record;
}

void ReplayLog::add(http::ConnectionId connection) {
  assert(connection != kNone);
  dirty_.emplace(connection, ++sequence_);
}

void ReplayLog::add(RecordPtr record, http::ConnectionId connection) {
  assert((connection == kNone) == (record->row != 0));
  const Interval interval(record->range.offset, record->range.end());
  uint64_t since = ++sequence_;
  uint64_t for_orphans = since;
  for (const Map* map : {&map_, &spooled_}) {
    const auto [begin, end] = map->equal_range(interval);
    for (auto it = begin; it != end; ++it) {
      since = std::min(since, it->second.since);
      if (it->second.connection == kNone) for_orphans = std::min(for_orphans, it->second.since);
    }
  }
  if (connection != kNone) {
    uint64_t& dirty = dirty_.emplace(connection, sequence_).first->second;
    // It is not sent again now: this has to be stable in its place.
    dirty = std::min(dirty, for_orphans);
  }
  const bool spooled = record->row != 0;
  (spooled ? map_ : spooled_).erase(interval);
  (spooled ? spooled_ : map_).set({interval, Entry{std::move(record), connection, since}});
}

void ReplayLog::supersede(ByteRange range) {
  map_.erase(Interval(range.offset, range.end()));
  spooled_.erase(Interval(range.offset, range.end()));
}

void ReplayLog::move(const RecordPtr& record) {
  assert(record->row != 0);
  const Interval all(record->range.offset, record->range.end());
  const auto [begin, end] = map_.equal_range(all);
  for (auto it = begin; it != end; ++it)
    spooled_.set({it->first & all, Entry{record, kNone, it->second.since}});
  map_.erase(all);
}

void ReplayLog::flushed(http::ConnectionId connection) {
  dirty_.erase(connection);
  std::vector<Interval> stable;
  for (const auto& [interval, entry] : map_)
    if (entry.connection == connection) stable.push_back(interval);
  for (const Interval& interval : stable) map_.erase(interval);
}

bool ReplayLog::lost(http::ConnectionId connection) {
  if (dirty_.erase(connection) == 0) return false;
  for (auto it = map_.begin(); it != map_.end(); ++it) {
    Entry& entry = it->second;
    if (entry.connection == connection) {
      entry.connection = kNone;
    } else if (entry.connection != kNone) {
      // It may hide what was lost.
      uint64_t& dirty = dirty_.at(entry.connection);
      dirty = std::min(dirty, entry.since);
    }
  }
  return true;
}

bool ReplayLog::has_orphans() const {
  return !spooled_.empty() ||
         std::any_of(map_.begin(), map_.end(),
                     [](const auto& item) { return item.second.connection == kNone; });
}

uint64_t ReplayLog::orphan_bytes() const {
  uint64_t bytes = 0;
  for (const Map* map : {&map_, &spooled_})
    for (const auto& [interval, entry] : *map)
      if (entry.connection == kNone) bytes += range_of(interval).length;
  return bytes;
}

// The first stretch of entries that are wanted.
template <typename Wanted>
std::optional<ByteRange> ReplayLog::first_run(uint64_t most, Wanted wanted) const {
  std::optional<ByteRange> run;
  for (const auto& [interval, entry] : map_) {
    const ByteRange range = range_of(interval);
    if (!wanted(entry)) {
      if (run) break;
    } else if (!run) {
      run = range;
    } else if (range.offset != run->end() || run->length + range.length > most) {
      break;
    } else {
      run->length += range.length;
    }
  }
  return run;
}

std::optional<ByteRange> ReplayLog::first_orphans(uint64_t most) const {
  return first_run(most, [](const Entry& entry) { return entry.connection == kNone; });
}

std::optional<ByteRange> ReplayLog::first_in_memory(uint64_t most) const {
  return first_run(most, [](const Entry&) { return true; });
}

void ReplayLog::add_slices(const Map& map, ByteRange range, std::vector<Slice>& result) {
  const auto [begin, end] = map.equal_range(Interval(range.offset, range.end()));
  for (auto it = begin; it != end; ++it) {
    const uint64_t first = std::max(it->first.lower(), range.offset);
    const uint64_t stop = std::min(it->first.upper(), range.end());
    result.push_back({{first, stop - first}, it->second.record, it->second.connection});
  }
}

std::vector<Slice> ReplayLog::slices(ByteRange range) const {
  std::vector<Slice> result;
  add_slices(map_, range, result);
  if (spooled_.empty()) return result;
  add_slices(spooled_, range, result);
  std::sort(result.begin(), result.end(), [](const Slice& a, const Slice& b) {
    return a.range.offset < b.range.offset;
  });
  return result;
}

std::vector<http::ConnectionId> ReplayLog::to_flush(uint64_t sequence) const {
  std::vector<http::ConnectionId> connections;
  for (const auto& [connection, since] : dirty_)
    if (since <= sequence) connections.push_back(connection);
  return connections;
}

bool ReplayLog::waits_for(Wait what, uint64_t sequence) const {
  const Map& map = what == Wait::kRows ? spooled_ : map_;
  return std::any_of(map.begin(), map.end(), [&](const auto& item) {
    const Entry& entry = item.second;
    return entry.since <= sequence && (what != Wait::kOrphans || entry.connection == kNone);
  });
}

}  // namespace upload::journal
