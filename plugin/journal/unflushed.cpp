// SPDX-License-Identifier: BSD-3-Clause
//
// Steps that concern both the log and the rows, and what has to hold between them.

#include "journal/unflushed.h"

#include <algorithm>
#include <cassert>
#include <set>

namespace upload::journal {

void Unflushed::add_row(const SpoolRow& row) {
  std::set<uint64_t> hidden;
  for (const Slice& slice : log.slices(row.range))
    if (slice.record->row != 0) hidden.insert(slice.record->row);
  last_row_id_ = std::max(last_row_id_, row.id);
  rows_.add(row);
  log.add(ReplayLog::make_record(row), kNoConnection);
  for (const uint64_t id : hidden) {
    const SpoolRow& other = *rows_.find(id);
    if (other.sequence > partly_sent_ && !is_seen(other)) dead_rows_.push_back(id);
  }
}

void Unflushed::move_to_row(const SpoolRow& row) {
  rows_.add(row);
  log.move(ReplayLog::make_record(row));
  // Unless a flush that was under way has made it stable meanwhile.
  if (!is_seen(row)) dead_rows_.push_back(row.id);
}

void Unflushed::begin_sending(std::span<const SpoolRow> rows) {
  if (!rows.empty()) partly_sent_ = std::max(partly_sent_, rows.back().sequence);
}

std::vector<Slice> Unflushed::seen_slices(const SpoolRow& row) const {
  std::vector<Slice> slices = log.slices(row.range);
  std::erase_if(slices, [&](const Slice& slice) { return slice.record->row != row.id; });
  return slices;
}

bool Unflushed::is_seen(const SpoolRow& row) const { return !seen_slices(row).empty(); }

void Unflushed::rows_dropped(std::span<const SpoolRow> rows) {
  std::set<uint64_t> dropped;
  for (const SpoolRow& row : rows) {
    rows_.remove(row);
    dropped.insert(row.id);
  }
  std::erase_if(dead_rows_, [&](uint64_t id) { return dropped.contains(id); });
}

std::vector<uint64_t> Unflushed::take_dead_rows() { return std::exchange(dead_rows_, {}); }

void Unflushed::dead_rows_dropped(std::span<const uint64_t> ids) {
  for (const uint64_t id : ids) rows_.remove(SpoolRow(*rows_.find(id)));
}

void Unflushed::check(uint64_t size) const {
  log.check();
  for (const Slice& slice : log.slices({0, size})) {
    assert(slice.range.end() <= size);
    const uint64_t id = slice.record->row;
    if (id == 0) {
      assert(keeps_content_ && !rows_.overlaps(slice.range));
      continue;
    }
    // What the log says to be in a row is there, and nothing newer hides it.
    const SpoolRow* const row = rows_.find(id);
    assert(row != nullptr && row->sequence == slice.record->sequence);
    assert(row->range.offset <= slice.range.offset && slice.range.end() <= row->range.end());
    assert(!rows_.hides(*row, slice.range));
  }
  // Dropping it must not show what it hides.
  for (const uint64_t id : dead_rows_) {
    const SpoolRow* const row = rows_.find(id);
    assert(row != nullptr && rows_.may_go(*row));
  }
}

}  // namespace upload::journal
