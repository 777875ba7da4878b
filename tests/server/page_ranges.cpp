// SPDX-License-Identifier: BSD-3-Clause
//
// Written pages as a map from beginnings to ends.
//
// Invariant: no range is empty, and each ends at the beginning of the next one or before.
//
// Threads: the caller's lock. Errors: none; alignment and bounds are the caller's business.

#include "page_ranges.h"

#include <algorithm>
#include <iterator>

namespace upload::testserver {

void PageRanges::write(const ByteRange& range) {
  clear(range);
  if (range.length > 0) {
    ends_[range.offset] = range.end();
  }
}

void PageRanges::clear(const ByteRange& range) {
  if (range.length == 0) {
    return;
  }
  auto it = ends_.upper_bound(range.offset);
  if (it != ends_.begin() && std::prev(it)->second > range.offset) {
    --it;
  }
  while (it != ends_.end() && it->first < range.end()) {
    const auto [first, end] = *it;
    it = ends_.erase(it);
    if (first < range.offset) {
      ends_[first] = range.offset;
    }
    if (end > range.end()) {
      it = ends_.emplace(range.end(), end).first;
    }
  }
}

std::vector<ByteRange> PageRanges::list(const ByteRange& range, std::size_t limit) const {
  std::vector<ByteRange> found;
  auto it = ends_.upper_bound(range.offset);
  if (it != ends_.begin() && std::prev(it)->second > range.offset) {
    --it;
  }
  for (; it != ends_.end() && it->first < range.end() && found.size() < limit; ++it) {
    const std::uint64_t first = std::max(it->first, range.offset);
    found.push_back({first, std::min(it->second, range.end()) - first});
  }
  return found;
}

}  // namespace upload::testserver
