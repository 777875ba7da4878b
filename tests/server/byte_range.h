// SPDX-License-Identifier: BSD-3-Clause
//
// A range of bytes of an image. A value type without any state of its own.

#pragma once

#include <cstdint>

namespace upload::testserver {

/// `length` bytes from `offset` on; both in bytes. `offset + length` must not overflow,
/// which the one who builds a range from what a client says has to check.
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;

  [[nodiscard]] std::uint64_t end() const { return offset + length; }

  /// Empty ranges overlap nothing.
  [[nodiscard]] bool overlaps(const ByteRange& other) const {
    return length > 0 && other.length > 0 && offset < other.end() && other.offset < end();
  }

  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

}  // namespace upload::testserver
