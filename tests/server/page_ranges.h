// SPDX-License-Identifier: BSD-3-Clause
//
// Which pages of a page blob have been written.

#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "byte_range.h"

namespace upload::testserver {

/// A set of ranges that do not overlap. Ranges that are next to each other stay as they were
/// written: a list of pages that is not merged makes clients merge. Not thread safe.
class PageRanges {
 public:
  void write(const ByteRange& range);
  void clear(const ByteRange& range);

  /// Those within `range`, cut to it, in order; at most `limit`.
  [[nodiscard]] std::vector<ByteRange> list(const ByteRange& range, std::size_t limit) const;

 private:
  std::map<std::uint64_t, std::uint64_t> ends_;  // by their beginnings
};

}  // namespace upload::testserver
