// SPDX-License-Identifier: BSD-3-Clause
//
// ImageioExtents: reads imageio's list of extents as it comes.
//
//   [{"start": 0, "length": 65536, "zero": false, "hole": false}, ...]
//
// Not thread safe. Failures are kMalformed.

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "target/extent_list.h"
#include "target/target.h"

namespace upload::target {

class ImageioExtents final : public ExtentsReader {
 public:
  // `size` of the disk, in bytes.
  explicit ImageioExtents(uint64_t size) : size_(size) {}

  Status take(std::string_view piece) override;
  Result<bool> finish_page(const http::Reply& reply) override;
  std::vector<Extent> take_extents() override { return list_.take(); }

 private:
  enum class Place { kBegin, kFirst, kNext, kIn, kAfter, kEnd };

  Status take_character(char c);
  Status take_outside(char c);
  Status end_item();

  const uint64_t size_;
  ExtentList list_;
  uint64_t count_ = 0;  // of all that have come
  Place place_ = Place::kBegin;
  // The text of the object that is being read.
  std::string item_;
  unsigned depth_ = 0;    // of braces and brackets in it
  bool quoted_ = false;   // in a string
  bool escaped_ = false;  // after a backslash in a string
  unsigned blanks_ = 0;   // between two objects
};

}  // namespace upload::target
