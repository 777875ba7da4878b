// SPDX-License-Identifier: BSD-3-Clause
//
// The log is four maps of segments, one for each reason why bytes may be
// unstable: their connection has to be flushed; it is lost; they have yet to be sent; the server
// is away.
// So the oldest of each kind is known without a search.

#include "journal/replay_log.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace upload::journal {

namespace {

void append_slices(const SegmentMap& map, ByteRange range, std::vector<Slice>& slices) {
  map.each(range, [&](const Segment& segment) {
    slices.push_back({intersection(segment.range, range), segment.record, segment.connection});
  });
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

std::shared_ptr<Record> ReplayLog::make_record(const std::shared_ptr<Memory>& memory,
                                               ByteRange range, uint64_t sequence,
                                               const void* data) {
  auto record = std::make_shared<Record>();
  record->range = range;
  record->sequence = sequence;
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
  record->sequence = row.sequence;
  record->row = row.id;
  record->zero = row.zero;
  return record;
}

void ReplayLog::add(ConnectionId connection) {
  assert(connection != kNoConnection);
  dirty_.emplace(connection, ++acknowledged_);
}

// A change of the range is acknowledged, and hides what is there.
ReplayLog::Ages ReplayLog::hide(ByteRange range) {
  ++acknowledged_;
  Ages ages{acknowledged_, acknowledged_};
  for (const SegmentMap* map : maps())
    map->each(range, [&](const Segment& hidden) {
      ages.since = std::min(ages.since, hidden.oldest());
      if (hidden.connection == kNoConnection) ages.needed = std::min(ages.needed, hidden.since);
    });
  supersede(range);
  return ages;
}

void ReplayLog::add(RecordPtr record, ConnectionId connection) {
  const bool spooled = record->row != 0;
  assert((connection == kNoConnection) == spooled);
  const ByteRange range = record->range;
  const Ages ages = hide(range);
  if (!spooled) make_dirty(connection, ages.needed);
  (spooled ? spooled_ : carried_).add({range, std::move(record), connection, ages.since});
}

void ReplayLog::add_unsent(RecordPtr record) {
  assert(record->row == 0);
  const ByteRange range = record->range;
  const Ages ages = hide(range);
  unsent_.add({range, std::move(record), kNoConnection, ages.needed, ages.since});
}

// A flush of the connection makes stable what was acknowledged from then on.
void ReplayLog::make_dirty(ConnectionId connection, uint64_t since) {
  uint64_t& dirty = dirty_.emplace(connection, since).first->second;
  dirty = std::min(dirty, since);
}

void ReplayLog::sent(ByteRange range, ConnectionId connection) {
  assert(connection != kNoConnection);
  std::vector<Segment> segments;
  unsent_.each(range, [&](const Segment& segment) { segments.push_back(segment); });
  unsent_.erase(range);
  for (const Segment& segment : segments) {
    make_dirty(connection, segment.since);
    carried_.add(
        {intersection(segment.range, range), segment.record, connection, segment.oldest()});
  }
}

void ReplayLog::supersede(ByteRange range) {
  carried_.erase(range);
  orphans_.erase(range);
  unsent_.erase(range);
  spooled_.erase(range);
}

void ReplayLog::move(const RecordPtr& record) {
  assert(record->row != 0);
  for (SegmentMap* map : {&carried_, &orphans_, &unsent_}) {
    map->each(record->range, [&](const Segment& segment) {
      spooled_.add(
          {intersection(segment.range, record->range), record, kNoConnection, segment.oldest()});
    });
    map->erase(record->range);
  }
}

void ReplayLog::flushed(ConnectionId connection) {
  dirty_.erase(connection);
  carried_.take(connection);
}

bool ReplayLog::lost(ConnectionId connection) {
  if (dirty_.erase(connection) == 0) return false;
  for (Segment& segment : carried_.take(connection)) {
    segment.connection = kNoConnection;
    orphans_.add(std::move(segment));
  }
  // What the others carried, or is unsent, may hide what was lost.
  for (auto& [other, dirty] : dirty_)
    if (const auto oldest = carried_.oldest(other)) dirty = std::min(dirty, *oldest);
  for (Segment& segment : unsent_.take(kNoConnection)) {
    segment.since = segment.oldest();
    unsent_.add(std::move(segment));
  }
  return true;
}

// The first segments of the maps together, as far as they are adjacent.
std::optional<ByteRange> ReplayLog::first_run(std::initializer_list<const SegmentMap*> maps,
                                              uint64_t most, uint64_t from) {
  const auto next = [&](uint64_t offset) {
    const Segment* first = nullptr;
    for (const SegmentMap* map : maps) {
      const Segment* const segment = map->first_from(offset);
      if (first == nullptr || (segment != nullptr && segment->range.offset < first->range.offset))
        first = segment;
    }
    return first;
  };
  const Segment* segment = next(from);
  if (segment == nullptr) return std::nullopt;
  ByteRange run = segment->range;
  while (run.length < most) {
    segment = next(run.end());
    if (segment == nullptr || segment->range.offset != run.end() ||
        run.length + segment->range.length > most)
      break;
    run.length += segment->range.length;
  }
  return run;
}

std::optional<ByteRange> ReplayLog::first_orphans(uint64_t most, uint64_t from) const {
  return first_run({&orphans_}, most, from);
}

std::optional<ByteRange> ReplayLog::first_in_memory(uint64_t most) const {
  return first_run({&carried_, &orphans_, &unsent_}, most, 0);
}

std::vector<Slice> ReplayLog::first_unsent(ByteRange within, const Most& most) const {
  std::vector<Slice> run;
  uint64_t total = 0;
  bool zeroes = true;
  for (uint64_t at = within.offset; at < within.end(); at = run.back().range.end()) {
    const Segment* const segment = unsent_.first_from(at);
    if (segment == nullptr || segment->range.offset >= within.end()) break;
    if (!run.empty() && segment->range.offset != at) break;
    const ByteRange part = intersection(segment->range, within);
    zeroes = zeroes && segment->record->zero;
    total += part.length;
    // More zeroes than go along as data end where data begins: they do not fit any more.
    if (!run.empty() && total > (zeroes ? most.zeroes : most.data)) break;
    run.push_back({part, segment->record, kNoConnection});
  }
  return run;
}

std::vector<Slice> ReplayLog::slices(ByteRange range) const {
  std::vector<Slice> result;
  for (const SegmentMap* map : maps()) append_slices(*map, range, result);
  std::sort(result.begin(), result.end(),
            [](const Slice& a, const Slice& b) { return a.range.offset < b.range.offset; });
  return result;
}

std::vector<Slice> ReplayLog::orphans(ByteRange range) const {
  std::vector<Slice> result;
  append_slices(orphans_, range, result);
  return result;
}

std::vector<ConnectionId> ReplayLog::to_flush(uint64_t acknowledged) const {
  std::vector<ConnectionId> connections;
  for (const auto& [connection, since] : dirty_)
    if (since <= acknowledged) connections.push_back(connection);
  return connections;
}

bool ReplayLog::waits_for(Wait what, uint64_t acknowledged) const {
  const auto is_old = [&](const SegmentMap& map) {
    const auto oldest = map.oldest();
    return oldest && *oldest <= acknowledged;
  };
  switch (what) {
    case Wait::kSending: return is_old(orphans_) || is_old(unsent_);
    case Wait::kRows: return is_old(spooled_);
    case Wait::kMemory: return is_old(carried_) || is_old(orphans_) || has_unsent();
  }
  return false;
}

uint64_t ReplayLog::looked_at() const {
  uint64_t looked_at = 0;
  for (const SegmentMap* map : maps()) looked_at += map->looked_at();
  return looked_at;
}

void ReplayLog::check() const {
  uint64_t end = 0;
  for (const Slice& slice : slices({0, UINT64_MAX})) {
    assert(slice.range.offset >= end);  // of no byte two
    end = slice.range.end();
  }
  for (const SegmentMap* map : maps())
    map->each({0, UINT64_MAX}, [&](const Segment& segment) {
      assert(segment.since > 0 && segment.since <= acknowledged_);
      assert((segment.record->row != 0) == (map == &spooled_));
      assert((segment.connection == kNoConnection) == (map != &carried_));
      // A flush of the connection is asked for by whoever needs the segment.
      const auto dirty = dirty_.find(segment.connection);
      assert(map != &carried_ || dirty != dirty_.end());
      (void)dirty;
    });
}

}  // namespace upload::journal
