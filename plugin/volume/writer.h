// SPDX-License-Identifier: BSD-3-Clause
//
// Writer: the path of a write or a zero, from the thread of an NBD client to the wire.
//
//   write, zero    make a Change on the caller's stack
//   commit         queues it; the thread waits until its change has become part of a batch
//                  that was sent, or leads one (Core::find_leaders: when a connection is free
//                  the oldest ready change leads, and takes the run of changes around it)
//   send_batch     tries until the batch is on the server or given up, or belongs into the
//                  fallback (Delivery); each attempt is one request (Exchange::change)
//   acknowledge    what a flush will have to cover
//   Core::finish   wakes the threads of the batch
//
// A write goes out at once when a connection is free; batches form only while all are busy.
// Each caller's thread holds its own buffer until its change is done, so nothing is copied
// on the way to libcurl.
//
// The order of steps around a reply is what keeps the invariants:
//   - a connection is entered into the log as dirty before its lease is given back and
//     before the change is acknowledged, so no flush can miss it (5);
//   - a failed connection is given back, which latches the error of every volume that was
//     dirty on it or makes its changes orphans, before the failure is returned (2, 6);
//   - a connection that died while it was idle is noticed before a change is sent on its
//     replacement, and then the change is not sent (2);
//   - the range of a change whose fate is unknown takes no other change: the server may
//     still be at it, and would overwrite what comes later (7).
//
// Thread safe: each method blocks its caller, and any number of threads call.

#pragma once

#include <optional>
#include <vector>

#include "base/byte_range.h"
#include "base/status.h"
#include "journal/replay_log.h"
#include "upstream/lease.h"
#include "volume/change_queue.h"
#include "volume/core.h"
#include "volume/delivery.h"
#include "volume/exchange.h"
#include "volume/fallback.h"
#include "volume/flusher.h"
#include "volume/mode.h"
#include "volume/write_back.h"

namespace upload::volume {

class Writer {
 public:
  // All outlive the writer. Null `write_back`: changes are acknowledged when they are sent.
  Writer(Core& core, Mode& mode, Exchange& exchange, Delivery& delivery, WriteBack* write_back,
         Fallback& fallback, Flusher& flusher)
      : core_(core),
        mode_(mode),
        exchange_(exchange),
        delivery_(delivery),
        write_back_(write_back),
        fallback_(fallback),
        flusher_(flusher) {}

  // The range is within the disk and not empty. `fua`: returns when it is stable.
  Status write(ByteRange range, const void* data, bool fua) EXCLUDES(core_.mutex);
  Status zero(ByteRange range, bool fua) EXCLUDES(core_.mutex);

 private:
  [[nodiscard]] uint64_t bytes_into_block(ByteRange range) const;
  Status commit(Change& change, bool fua) noexcept EXCLUDES(core_.mutex);
  Status admit(Change& change, bool write_back) REQUIRES(core_.mutex);
  Status wait_for_room(Change& change, bool write_back) REQUIRES(core_.mutex);
  void leave_line(Change& change) REQUIRES(core_.mutex);
  void wait_for_turn(Change& change) REQUIRES(core_.mutex);
  bool send_batch(Change& leader) EXCLUDES(core_.mutex);
  [[nodiscard]] bool make_records(const std::vector<Change*>& batch,
                                  std::vector<journal::RecordPtr>& records);
  Status not_recorded(upstream::Lease& lease, size_t recorded, const std::vector<Change*>& batch);
  void acknowledge(const std::vector<Change*>& batch, ConnectionId id,
                   std::vector<journal::RecordPtr> records) REQUIRES(core_.mutex);

  Core& core_;
  Mode& mode_;
  Exchange& exchange_;
  Delivery& delivery_;
  WriteBack* const write_back_;
  Fallback& fallback_;
  Flusher& flusher_;
};

}  // namespace upload::volume
