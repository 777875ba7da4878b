// SPDX-License-Identifier: BSD-3-Clause
//
// VolumeOptions: all that a volume is told about its disk, its server and its limits when
// it is made. Values; constant from then on.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/fence.h"
#include "journal/memory.h"
#include "journal/spool.h"
#include "target/target.h"
#include "volume/change_queue.h"

namespace upload::volume {

struct VolumeOptions {
  std::string name;  // for error texts; no secret in it
  std::shared_ptr<const target::Target> target;
  target::Capabilities capabilities;
  uint64_t size = 0;  // bytes
  BatchLimits limits;
  uint64_t replay = 0;  // bytes for the replay log, its own; 0: there is no log
  // With a replay log: what it may borrow from besides; may be null.
  std::shared_ptr<journal::CommonMemory> common_replay;
  // With a replay log: a change is acknowledged once it is in the log, and sent by a thread of the
  // volume's.
  bool write_back = false;
  // With a replay log: how long to try again before the error latches; with
  // a spool: how long to wait for a server that takes nothing.
  Duration retry_time = std::chrono::seconds(300);
  // With a replay log: how long a ticket that is denied after the loss of a
  // connection is waited for. A server that was restarted may know its tickets
  // only after somebody has told it.
  Duration denied_wait{0};
  // How long a server that is alive may take to apply a request whose
  // connection was lost: timeout=, after which a server has given it up.
  Duration late = std::chrono::seconds(60);
  // No attempt at a request takes longer, but where bytes move: connecting, then sending,
  // then waiting for the reply, each within its own time-out.
  Duration longest_attempt = std::chrono::seconds(130);
  // So many attempts of volumes that share too few connections, one after the other, may end
  // with one of this volume's.
  int turns = 1;
  // With a replay log: where to keep changes during an outage; null: nowhere.
  std::shared_ptr<journal::Spool> spool;
  uint64_t spool_size = UINT64_MAX;  // bytes, at least `replay`
  bool spool_local = false;          // what is in the spool counts as flushed
  // Of the claim, and outlives the volume; null: there is none.
  const Fence* fence = nullptr;
  // An earlier process may have requests under way, of any changes.
  bool unclean_start = false;

  // ok(): something may be sent now, and a reply that is there now may be believed.
  [[nodiscard]] Status check_fence() const {
    return fence == nullptr ? Status() : fence->check();
  }
  // Acknowledged content is kept until it is stable.
  [[nodiscard]] bool keeps_content() const { return replay > 0; }
  // A write that is larger goes in pieces that fit into the replay log, and into a request. Bytes;
  // whole blocks of the server's storage.
  [[nodiscard]] uint64_t largest_write() const {
    constexpr uint64_t kBlock = 4096;
    return std::min(keeps_content() ? replay / 2 / kBlock * kBlock : UINT64_MAX,
                    capabilities.traits.max_write);
  }
  // Requests that fail for a reason that passes are tried again.
  [[nodiscard]] bool persists() const { return replay > 0 || capabilities.traits.persists; }
  // The server's acknowledgement means stable, with FUA or without: write-through.
  [[nodiscard]] bool stable_on_reply() const {
    return capabilities.traits.durability != target::Durability::kOnFlush;
  }
};

}  // namespace upload::volume
