// SPDX-License-Identifier: BSD-3-Clause
//
// ByteRange: a pair of offset and length, in bytes. A value.

#pragma once

#include <algorithm>
#include <cstdint>

namespace upload {

struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;

  // The first byte after the range.
  [[nodiscard]] uint64_t end() const { return offset + length; }
  // The last byte of the range, as HTTP counts (RFC 9110, section 14.1.2).
  // The range must not be empty.
  [[nodiscard]] uint64_t last() const { return offset + length - 1; }
  [[nodiscard]] bool overlaps(const ByteRange& other) const {
    return offset < other.end() && other.offset < end();
  }
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

// What two ranges that overlap have in common.
[[nodiscard]] inline ByteRange intersection(ByteRange a, ByteRange b) {
  const uint64_t offset = std::max(a.offset, b.offset);
  return {offset, std::min(a.end(), b.end()) - offset};
}

// The whole blocks that a range touches. `block`: a power of two, in bytes.
[[nodiscard]] inline ByteRange blocks_of(ByteRange range, uint64_t block) {
  const uint64_t offset = range.offset & ~(block - 1);
  return {offset, ((range.end() + block - 1) & ~(block - 1)) - offset};
}

}  // namespace upload
