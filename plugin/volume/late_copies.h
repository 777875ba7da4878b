// SPDX-License-Identifier: BSD-3-Clause
//
// LateCopies: ranges of the disk that the server may yet change behind our
// back, because a request to them has failed and it is not known whether it
// was applied, or will be.
//
// A late copy of a change does no harm to the same change sent again: it
// writes the same. Any other change has to wait until no copy can come; so has another part of
// the same change, where the copy writes to its blocks what had been there before.
//
// A copy can come until the time-out has passed since the server has answered
// a request that was begun after the failure. Counted from the failure itself
// it would be over while the server is frozen, with the request still in it.
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
  // Stands for a time that is not known before the server answers.
  static constexpr TimePoint kUnknown = TimePoint::max();

  // `time_out`: how long a server that is well may take to apply a request
  // whose client has gone.
  explicit LateCopies(Duration time_out) : time_out_(time_out) {}

  // A request to that range has failed at `now`. `sequence`: of the change that may go
  // there again, since it writes the same; 0: none may.
  void add(ByteRange range, uint64_t sequence, TimePoint now) {
    add(range, range, sequence, now);
  }
  // Of the range, which is whole blocks, only `own` is the change's: the rest it writes as it was.
  void add(ByteRange range, ByteRange own, uint64_t sequence, TimePoint now);
  // Copies of changes of an earlier process may come until then.
  void add_until(ByteRange range, uint64_t first, uint64_t last, TimePoint until);

  // The server has answered, now, a request that began at `began`. True: it is
  // known of more copies how long they may come.
  bool answered(TimePoint began, TimePoint now);
  // Of some copies it is not known how long they may come.
  [[nodiscard]] bool any_unknown() const { return unknown_ > 0; }

  // Until when a copy of another change than that with the sequence may come to the range;
  // nothing: none can. `sequence` 0: of any change.
  [[nodiscard]] std::optional<TimePoint> until(ByteRange range, uint64_t sequence, TimePoint now);
  // The same of the whole disk and of any change.
  [[nodiscard]] std::optional<TimePoint> last(TimePoint now);

  [[nodiscard]] size_t count() const { return copies_.size(); }

 private:
  struct Copy {
    ByteRange range;
    ByteRange own;  // a part of it
    uint64_t first;
    uint64_t last;
    TimePoint failed;
    TimePoint until;
  };
  void forget_old(TimePoint now);

  const Duration time_out_;
  std::vector<Copy> copies_;
  size_t unknown_ = 0;  // of copies_, those until kUnknown
};

}  // namespace upload::volume
