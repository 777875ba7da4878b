// SPDX-License-Identifier: BSD-3-Clause
//
// The grain doubles until half of what is kept is enough, so that making the list coarser
// is rare: the cost of adding stays constant on average.

#include "target/extent_list.h"

#include <algorithm>
#include <cassert>

namespace upload::target {

void ExtentList::add(Extent extent) {
  assert(extent.range.length > 0 && extent.range.offset == end());
  append(extent);
  if (extents_.size() > most_) coarsen();
}

void ExtentList::append(Extent extent) {
  if (extent.range.length < grain_) extent.zero = extent.hole = false;
  if (!extents_.empty() && extents_.back().zero == extent.zero &&
      extents_.back().hole == extent.hole)
    extents_.back().range.length += extent.range.length;
  else
    extents_.push_back(extent);
}

void ExtentList::coarsen() {
  constexpr uint64_t kFirst = 4096;
  assert(most_ >= 2);
  while (extents_.size() > most_ / 2) {
    grain_ = std::max(kFirst, 2 * grain_);
    std::vector<Extent> fine;
    fine.swap(extents_);
    for (const Extent& extent : fine) append(extent);
  }
}

}  // namespace upload::target
