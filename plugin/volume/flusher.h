// SPDX-License-Identifier: BSD-3-Clause
//
// Flusher: makes every change that was acknowledged before stable (invariant 5), by a flush
// on each connection that carried one of them. With a replay log it goes on until that is so,
// whatever is lost meanwhile.
//
// Where the server's reply means stable (Durability::kOnReply) no connection is ever dirty:
// a flush then sends nothing, and waits for what is in the spool only.
//
// Thread safe: each method blocks its caller, and any number of threads call.

#pragma once

#include <vector>

#include "base/connection_id.h"
#include "base/status.h"
#include "volume/core.h"
#include "volume/exchange.h"
#include "volume/fallback.h"
#include "volume/mode.h"

namespace upload::volume {

class Flusher {
 public:
  // All outlive the flusher.
  Flusher(Core& core, Mode& mode, Exchange& exchange, Fallback& fallback)
      : core_(core), mode_(mode), exchange_(exchange), fallback_(fallback) {}

  Status flush() EXCLUDES(core_.mutex);
  // Flushes what is dirty, once, to make room in the log. What fails is orphaned, and comes
  // back as such.
  void make_room() EXCLUDES(core_.mutex);

 private:
  Status flush_acknowledged() EXCLUDES(core_.mutex);
  Result<std::vector<ConnectionId>> connections_to_flush(uint64_t acknowledged, TimePoint start)
      EXCLUDES(core_.mutex);
  // Whether any of the flushes has succeeded, and the first failure.
  struct Flushed {
    bool any = false;
    Status failure{};
  };
  Flushed flush_connections(const std::vector<ConnectionId>& ids) EXCLUDES(core_.mutex);
  Status flush_connection(ConnectionId id) noexcept EXCLUDES(core_.mutex);
  Status check_fallback() EXCLUDES(core_.mutex);

  Core& core_;
  Mode& mode_;
  Exchange& exchange_;
  Fallback& fallback_;
};

}  // namespace upload::volume
