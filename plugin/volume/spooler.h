// SPDX-License-Identifier: BSD-3-Clause
//
// Spooler: the way of changes into the spool while the server is away, and where it is known
// whether they go there (volume/spool_state.h). Drainer is the way out.
//
// What holds at any time: of each byte that a row is about, the newest acknowledged content
// is in the spool, in the newest of those rows (journal/unflushed.h). So after kill -9 the
// rows, in their order, are all that has to be known:
//   - a change that overlaps a row becomes a row itself (Core::belongs_into_spool, asked
//     while the change has its range to itself);
//   - what is in memory moves while its range is held, so that nothing newer is acknowledged
//     for it meanwhile.
//
// A change is appended by the thread of the oldest change that waits, together with all
// others that wait, in one transaction (group commit).
//
// Thread safe.

#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "journal/spool.h"
#include "volume/core.h"
#include "volume/fallback.h"
#include "volume/senders.h"

namespace upload::volume {

class Spooler final : public Fallback {
 public:
  // A disk that is full is asked again after that.
  static constexpr Duration kDiskAgain = std::chrono::seconds(1);

  // The core outlives the spooler; its options have a spool. Takes what an earlier run has
  // left there.
  explicit Spooler(Core& core);

  bool begin(const Status& why, TimePoint until) override EXCLUDES(core_.mutex);
  void append_and_finish(const Change& leader) override EXCLUDES(core_.mutex);
  Result<bool> read(const journal::Slice& slice, std::byte* to) override EXCLUDES(core_.mutex);
  // Likewise, into memory of its own; null: it has gone to the server meanwhile.
  Result<std::unique_ptr<std::byte[]>> load(const journal::Slice& slice) EXCLUDES(core_.mutex);
  Status check() override { return spool_.check(); }

  // Until what was left in the spool by an earlier run is on the server.
  Status wait_for_leftovers() EXCLUDES(core_.mutex);
  // Until the spool is empty, or the server has taken nothing for so long.
  void wait_until_empty(Duration give_up_after) EXCLUDES(core_.mutex);
  // The file stays also when it is empty: it tells the next process that this one may have
  // requests under way.
  void keep() EXCLUDES(core_.mutex);

  // With the core's mutex held: the only place where the state changes. Whoever waits looks
  // again.
  void enter(SpoolState state);
  // With the core's mutex held: moves the first stretch of what is in memory to the spool.
  // Null: there is none, or not before `not_before`.
  Job move_job(TimePoint& not_before);
  // The spool's disk has failed.
  void latch_unless_full(const Status& failure) EXCLUDES(core_.mutex);

 private:
  void take_leftovers() REQUIRES(core_.mutex);
  journal::SpoolContent make_row(ByteRange range, uint64_t sequence, const void* data)
      REQUIRES(core_.mutex);
  std::vector<Status> append(std::span<const journal::SpoolContent> contents)
      EXCLUDES(core_.mutex);
  void move() EXCLUDES(core_.mutex);

  Core& core_;
  journal::Spool& spool_;
  // After a failure.
  TimePoint next_move_ GUARDED_BY(core_.mutex) = TimePoint::min();
};

}  // namespace upload::volume
