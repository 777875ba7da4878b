// SPDX-License-Identifier: BSD-3-Clause
//
// ExtentList: which parts of a disk are zero, in bounded memory.
//
// What a client does with extents is always right if zeroes are called data, only slower.
// So a disk that has more extents than are kept is no failure: the shortest zeroes become
// data, and the long ones, which matter, stay.
//
// Not thread safe. Exceptions: std::bad_alloc.

#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "target/target.h"

namespace upload::target {

class ExtentList {
 public:
  // 24 MiB.
  static constexpr size_t kMost = size_t{1} << 20;

  // Keeps at most so many, 2 or more.
  explicit ExtentList(size_t most = kMost) : most_(most) {}

  // The first begins at 0, each other one where the one before it ends.
  void add(Extent extent);
  [[nodiscard]] std::vector<Extent> take() { return std::move(extents_); }
  // The end of the last.
  [[nodiscard]] uint64_t end() const {
    return extents_.empty() ? 0 : extents_.back().range.end();
  }

 private:
  void append(Extent extent);
  void coarsen();

  const size_t most_;
  std::vector<Extent> extents_;  // neighbours differ
  // Shorter extents are called data; in bytes.
  uint64_t grain_ = 0;
};

}  // namespace upload::target
