// SPDX-License-Identifier: BSD-3-Clause
//
// Replayer: the jobs of a volume with a replay log.
//
// What was acknowledged over a connection that is lost becomes orphaned in the log. A job
// sends some of it again, in this way:
//   - it takes the ranges of some orphans in the queue, like changes: later changes that
//     overlap them wait, earlier ones it waits for;
//   - then it looks again at what is still orphaned there, since an earlier change may have
//     been newer, and makes that stable over another connection (Resender).
// So for each byte the newest content is what the server gets last (invariant 7), and a
// flush returns when nothing up to its beginning is left in the log (invariant 5). Where
// there is much, more jobs do the same over the other connections.
//
// Another job flushes when the log is half full, so that writers wait only when it is full.
//
// Everything ends: without a spool each repetition gives up after the retry time, and
// latches; with one, a request that fails twice begins spooling, and then the thread of the
// Drainer does what is left to do here.
//
// Thread safe.

#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/byte_range.h"
#include "base/status.h"
#include "volume/core.h"
#include "volume/flusher.h"
#include "volume/mode.h"
#include "volume/resender.h"
#include "volume/senders.h"

namespace upload::volume {

class Replayer final : public JobSource {
 public:
  // All outlive the replayer.
  Replayer(Core& core, Mode& mode, Flusher& flusher, Resender& resender)
      : core_(core), mode_(mode), flusher_(flusher), resender_(resender) {}

  Job next_job(TimePoint& not_before) override;
  // Sends the first orphans in memory again, while no job does.
  Status replay_first() EXCLUDES(core_.mutex);

 private:
  [[nodiscard]] Job replay_job() REQUIRES(core_.mutex);
  [[nodiscard]] Job make_room_job() REQUIRES(core_.mutex);
  std::vector<ByteRange> claim_orphans() REQUIRES(core_.mutex);
  Status replay(const std::vector<ByteRange>& ranges) EXCLUDES(core_.mutex);
  Status send_all(std::span<const Pieces> requests) EXCLUDES(core_.mutex);

  Core& core_;
  Mode& mode_;
  Flusher& flusher_;
  Resender& resender_;

  // Jobs take orphans from here on, so that no two take the same; and when they have all
  // ended, what is left or has come meanwhile is looked at from the beginning.
  uint64_t claim_from_ GUARDED_BY(core_.mutex) = 0;
  size_t replaying_ GUARDED_BY(core_.mutex) = 0;
};

}  // namespace upload::volume
