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

std::vector<SpoolRow> SpoolIndex::oldest(uint64_t most_data, uint64_t most_zero,
                                         size_t most_rows) const {
  std::vector<SpoolRow> rows;
  uint64_t data = 0;
  uint64_t zero = 0;
  for (const auto& [age, row] : by_age_) {
    (row.zero ? zero : data) += row.range.length;
    if (!rows.empty() && (data > most_data || zero > most_zero || rows.size() == most_rows))
      break;
    rows.push_back(row);
  }
  return rows;
}

}  // namespace upload::journal
