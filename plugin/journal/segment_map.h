// SPDX-License-Identifier: BSD-3-Clause
//
// SegmentMap: which change has the newest content of which bytes, as segments
// that don't overlap, each with the connection that carried it and the age of
// what is unstable there.
//
// What is asked for each request costs the logarithm of the number of segments:
// segments are ordered by their offsets, and those of each connection by their
// ages besides, so that neither the oldest of them nor all of them have to be
// searched for. A segment is cut where a newer one covers a part of it; segments
// are never joined, so there are at most two more of them than were set for each
// that was set.
//
// A data structure without threads or I/O: its owner guards it.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <memory_resource>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/byte_range.h"
#include "base/connection_id.h"

namespace upload::journal {

struct Record;
using RecordPtr = std::shared_ptr<const Record>;

struct Segment {
  ByteRange range;
  RecordPtr record;             // that has the content
  ConnectionId connection = 0;  // that carried it
  uint64_t since = 0;           // the first acknowledgement of content here that is not stable
  // Of what is unsent: the same of what it hides and a connection has carried, so that `since` is
  // of the rest; see ReplayLog.
  uint64_t hidden_since = UINT64_MAX;

  [[nodiscard]] uint64_t oldest() const { return std::min(since, hidden_since); }
};

class SegmentMap {
 public:
  [[nodiscard]] bool empty() const { return segments_.empty(); }
  [[nodiscard]] size_t count() const { return segments_.size(); }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

  // Adds a segment where there is none.
  void add(Segment segment);
  // Removes what is in the range; segments that reach beyond it are cut.
  void erase(ByteRange range);
  // Removes all segments of a connection, and returns them, the oldest first.
  std::vector<Segment> take(ConnectionId connection);

  // The least `since` of all, or of those of a connection; nothing: there are none.
  [[nodiscard]] std::optional<uint64_t> oldest() const;
  [[nodiscard]] std::optional<uint64_t> oldest(ConnectionId connection) const;

  // The first segment that ends after `offset`; null: there is none.
  [[nodiscard]] const Segment* first_from(uint64_t offset) const;
  // Calls `visit` with each segment in the range, in order, whole even where it
  // reaches beyond the range.
  template <typename Visit>
  void each(ByteRange range, Visit visit) const {
    if (segments_.empty()) return;
    for (auto it = first_after(range.offset);
         it != segments_.end() && it->second.range.offset < range.end(); ++it)
      visit(look(it->second));
  }

  // How many segments were looked at, added or removed so far: tests see from
  // it how work grows with what the map holds.
  [[nodiscard]] uint64_t looked_at() const { return looked_at_; }

 private:
  using Segments = std::pmr::map<uint64_t, Segment>;          // by offset
  using Ages = std::pmr::set<std::pair<uint64_t, uint64_t>>;  // since, offset

  // The first segment that ends after `offset`.
  [[nodiscard]] Segments::const_iterator first_after(uint64_t offset) const;
  // Removes the segment; returns the next one.
  Segments::const_iterator remove(Segments::const_iterator it);
  const Segment& look(const Segment& segment) const {
    ++looked_at_;
    return segment;
  }

  std::pmr::unsynchronized_pool_resource nodes_;
  Segments segments_{&nodes_};
  std::pmr::map<ConnectionId, Ages> ages_{&nodes_};  // none is empty
  uint64_t bytes_ = 0;
  // What first_after() has found last, until a change: an owner asks for the same offset
  // several times before it sets a segment there.
  mutable std::optional<std::pair<uint64_t, Segments::const_iterator>> found_;
  mutable uint64_t looked_at_ = 0;
};

}  // namespace upload::journal
