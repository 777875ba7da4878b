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
  for (const uint64_t id : hidden) note_if_dead(*rows_.find(id));
}

void Unflushed::move_to_row(const SpoolRow& row) {
  rows_.add(row);
  log.move(ReplayLog::make_record(row));
  // Unless a flush that was under way has made it stable meanwhile.
  if (!is_seen(row)) dead_rows_.push_back(row.id);
}

// A row that somebody has taken is looked at when it is given back.
void Unflushed::note_if_dead(const SpoolRow& row) {
  if (!rows_.is_busy(row.id) && row.sequence > partly_sent_ && !is_seen(row))
    dead_rows_.push_back(row.id);
}

std::vector<SpoolRow> Unflushed::take_oldest(const SpoolIndex::Most& most) {
  std::vector<SpoolRow> rows = rows_.oldest(most);
  ++last_group_;
  for (const SpoolRow& row : rows) rows_.set_busy(row.id, last_group_);
  std::erase_if(dead_rows_, [&](uint64_t id) { return rows_.is_busy(id); });
  return rows;
}

void Unflushed::give_back(std::span<const SpoolRow> rows) {
  for (const SpoolRow& row : rows) {
    rows_.set_idle(row.id);
    note_if_dead(row);
  }
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
  for (const SpoolRow& row : rows) {
    assert(rows_.is_busy(row.id));
    rows_.remove(row);
  }
}

std::vector<uint64_t> Unflushed::take_dead_rows() {
  for (const uint64_t id : dead_rows_) rows_.set_busy(id, SpoolIndex::kDropping);
  return std::exchange(dead_rows_, {});
}

void Unflushed::dead_rows_dropped(std::span<const uint64_t> ids, bool done) {
  for (const uint64_t id : ids) {
    if (done)
      rows_.remove(SpoolRow(*rows_.find(id)));
    else
      rows_.set_idle(id);
  }
}

void Unflushed::check(uint64_t size) const {
  log.check();
  rows_.check();
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
    assert(row != nullptr && !rows_.is_busy(id) && rows_.may_go(*row));
  }
}

}  // namespace upload::journal
