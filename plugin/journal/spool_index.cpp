// SPDX-License-Identifier: BSD-3-Clause
//
// Counting rows byte by byte, in an interval map, is what makes it cheap to
// know whether any is left.

#include "journal/spool_index.h"

#include <algorithm>
#include <boost/icl/interval_set.hpp>
#include <cassert>

namespace upload::journal {

void SpoolIndex::add(const SpoolRow& row) {
  const Age age(row.sequence, row.id);
  const bool fresh = by_age_.emplace(age, row).second && by_id_.emplace(row.id, age).second;
  assert(fresh);
  (void)fresh;
  cover_.add({Interval(row.range.offset, row.range.end()), 1});
  used_ += cost_of(row);
}

void SpoolIndex::remove(const SpoolRow& row) {
  const size_t known = by_age_.erase(Age(row.sequence, row.id)) + by_id_.erase(row.id);
  assert(known == 2);
  (void)known;
  busy_.erase(row.id);
  cover_.subtract({Interval(row.range.offset, row.range.end()), 1});
  used_ -= cost_of(row);
}

const SpoolRow* SpoolIndex::find(uint64_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &by_age_.at(found->second);
}

bool SpoolIndex::overlaps(ByteRange range) const {
  return boost::icl::intersects(cover_, Interval(range.offset, range.end()));
}

bool SpoolIndex::hides(const SpoolRow& row, ByteRange range) const {
  for (auto it = by_age_.upper_bound(Age(row.sequence, row.id)); it != by_age_.end(); ++it)
    if (it->second.range.overlaps(range)) return true;
  return false;
}

bool SpoolIndex::may_go(const SpoolRow& row) const {
  boost::icl::interval_set<uint64_t, std::less, Interval> seen;
  seen.add(Interval(row.range.offset, row.range.end()));
  const auto self = by_age_.find(Age(row.sequence, row.id));
  for (auto it = std::next(self); it != by_age_.end(); ++it)
    seen.subtract(Interval(it->second.range.offset, it->second.range.end()));
  return std::none_of(by_age_.begin(), self, [&](const auto& older) {
    const ByteRange range = older.second.range;
    return boost::icl::intersects(seen, Interval(range.offset, range.end()));
  });
}

void SpoolIndex::set_busy(uint64_t id, uint64_t group) {
  assert(by_id_.contains(id));
  const bool fresh = busy_.emplace(id, group).second;
  assert(fresh);
  (void)fresh;
}

void SpoolIndex::set_idle(uint64_t id) {
  const size_t known = busy_.erase(id);
  assert(known == 1);
  (void)known;
}

void SpoolIndex::check() const {
  for (const auto& [id, group] : busy_) {
    if (group == kDropping) continue;
    const auto row = by_age_.find(by_id_.at(id));
    for (auto older = by_age_.begin(); older != row; ++older) {
      if (!older->second.range.overlaps(row->second.range)) continue;
      const auto other = busy_.find(older->second.id);
      assert(other != busy_.end() && other->second == group);
    }
  }
}

std::vector<SpoolRow> SpoolIndex::oldest(const Most& most) const {
  std::vector<SpoolRow> rows;
  boost::icl::interval_set<uint64_t, std::less, Interval> left_out;
  uint64_t data = 0;
  uint64_t zero = 0;
  size_t looked_through = 0;
  for (const auto& [age, row] : by_age_) {
    if (++looked_through > kMostLookedThrough) break;
    const ByteRange range = blocks_of(row.range, most.block);
    const Interval blocks(range.offset, range.end());
    if (is_busy(row.id) || boost::icl::intersects(left_out, blocks)) {
      left_out.add(blocks);
      continue;
    }
    (row.zero ? zero : data) += row.range.length;
    if (!rows.empty() && (data > most.data || zero > most.zero || rows.size() == most.rows))
      break;
    rows.push_back(row);
  }
  return rows;
}

}  // namespace upload::journal
