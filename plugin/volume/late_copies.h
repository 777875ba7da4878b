// SPDX-License-Identifier: BSD-3-Clause
//
// LateCopies: ranges of the disk that the server may yet change behind our
// back, because a request to them has failed and it is not known whether it
// was applied, or will be.
//
// A late copy of a change does no harm to the same change sent again: it
// writes the same. Any other change has to wait until no copy can come.
//
// A data structure without threads: its owner guards it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/byte_range.h"
#include "base/clock.h"

namespace upload::volume {

class LateCopies {
 public:
  // Copies of the changes from `first` to `last` (Change::sequence) may come
  // to the range until then.
  void add(ByteRange range, uint64_t first, uint64_t last, TimePoint until);

  // Until when a copy of another change than `change` may come to the range;
  // nothing: none can. `change` 0: of any change.
  [[nodiscard]] std::optional<TimePoint> until(ByteRange range, uint64_t change,
                                               TimePoint now);

  [[nodiscard]] size_t count() const { return copies_.size(); }

 private:
  struct Copy {
    ByteRange range;
    uint64_t first;
    uint64_t last;
    TimePoint until;
  };

  std::vector<Copy> copies_;
};

}  // namespace upload::volume
