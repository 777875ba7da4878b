// SPDX-License-Identifier: BSD-3-Clause
//
// Reader: what the disk contains. What is acknowledged and not stable comes from the replay
// log, in memory or in the spool, since the server may have lost it without anybody having
// noticed yet; the rest comes from the server. With a replay log reads and extents are
// repeated during an outage: they change nothing.
//
// Thread safe: each method blocks its caller, and any number of threads call.

#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/byte_range.h"
#include "base/mutex.h"
#include "base/status.h"
#include "volume/core.h"
#include "volume/exchange.h"
#include "volume/fallback.h"
#include "volume/mode.h"

namespace upload::volume {

using Extents = std::shared_ptr<const std::vector<target::Extent>>;

class Reader {
 public:
  // All outlive the reader.
  Reader(Core& core, Mode& mode, Exchange& exchange, Fallback& fallback)
      : core_(core), mode_(mode), exchange_(exchange), fallback_(fallback) {}

  // Into `data`, of range.length bytes.
  Status read(ByteRange range, void* data) EXCLUDES(core_.mutex);
  // Of the whole disk; they cover it exactly. Remembered until the next change.
  Result<Extents> extents() EXCLUDES(core_.mutex, extents_mutex_);
  // One question that any server answers.
  Status probe() EXCLUDES(core_.mutex);

 private:
  Status read_once(ByteRange range, void* data, bool& gone) EXCLUDES(core_.mutex);
  Status read_from_server(ByteRange range, void* data) EXCLUDES(core_.mutex);
  Result<upstream::Lease> lease_for(const char* doing) EXCLUDES(core_.mutex);
  Status read_from_log(const journal::Slice& slice, std::byte* to, bool& gone)
      EXCLUDES(core_.mutex);
  Result<Extents> extents_from_server() REQUIRES(extents_mutex_) EXCLUDES(core_.mutex);

  Core& core_;
  Mode& mode_;
  Exchange& exchange_;
  Fallback& fallback_;

  // Held while the server is asked for the extents: each list may be long, and those who
  // wait find it known. Taken before the core's mutex.
  Mutex extents_mutex_;
  Extents known_ GUARDED_BY(extents_mutex_);
  // They are what the disk was like when so many changes were begun.
  uint64_t known_after_ GUARDED_BY(extents_mutex_) = 0;
};

}  // namespace upload::volume
