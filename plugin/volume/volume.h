// SPDX-License-Identifier: BSD-3-Clause
//
// Volume: one remote disk, and the data path of everything done to it.
//
// Promises, to NBD clients:
//   - flush() succeeds only when every change that was acknowledged before it
//     was called is stable (invariant 5);
//   - when a change that was acknowledged may be lost, an error latches, and
//     every later request fails with it (invariants 2, 4, 6);
//   - for overlapping changes the order of acknowledgement is the order on
//     the server (invariant 7); after a change whose fate is unknown, others
//     that overlap it fail.
//   - for overlapping changes the order of acknowledgement is the order on
//     the server (invariant 7).
//
// Thread safe: each method blocks its caller, and any number of threads call.

#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/stats.h"
#include "pool/pool.h"
#include "target/target.h"
#include "volume/change_queue.h"

namespace upload::volume {

struct VolumeOptions {
  std::string name;  // for error texts; no secret in it
  std::shared_ptr<const target::Target> target;
  target::Capabilities capabilities;
  uint64_t size = 0;  // bytes
  BatchLimits limits;
};

using Extents = std::shared_ptr<const std::vector<target::Extent>>;

class Volume final : public pool::PoolClient, private pool::LeaseWaiter {
 public:
  // `pool`, `clock` and `stats` outlive the volume.
  Volume(VolumeOptions options, pool::Pool& pool, Clock& clock, Stats& stats);
  // No request is under way.
  ~Volume() override;

  [[nodiscard]] uint64_t size() const { return options_.size; }
  [[nodiscard]] const target::Capabilities& capabilities() const {
    return options_.capabilities;
  }

  // Ranges are within size() and not empty. `fua`: returns when stable.
  Status write(ByteRange range, const void* data, bool fua) EXCLUDES(mutex_);
  Status zero(ByteRange range, bool fua) EXCLUDES(mutex_);
  Status read(ByteRange range, void* data) EXCLUDES(mutex_);
  Status flush() EXCLUDES(mutex_);
  // Of the whole volume; they cover size() exactly.
  Result<Extents> extents() EXCLUDES(mutex_);

  void connection_lost(http::ConnectionId id, const Status& why) override EXCLUDES(mutex_);
  void keep_alive(pool::Lease& lease) override EXCLUDES(mutex_);

 private:
  enum class Purpose { kRead, kChange, kStableChange, kFlush, kKeepAlive };

  Status commit(Change& change) noexcept EXCLUDES(mutex_);
  void wait_for_turn(Change& change) REQUIRES(mutex_);
  Status lead(pool::Lease& lease, const std::vector<Change*>& batch) EXCLUDES(mutex_);
  Status send(pool::Lease& lease, const std::vector<Change*>& batch) EXCLUDES(mutex_);
  http::Request make_request(const std::vector<Change*>& batch, bool stable) const;
  void finish(const std::vector<Change*>& changes, const Status& result) REQUIRES(mutex_);
  Status flush_connection(http::ConnectionId id) EXCLUDES(mutex_);
  Status flush_lease(pool::Lease& lease, Purpose purpose) noexcept EXCLUDES(mutex_);

  void granted(Result<pool::Lease> lease) noexcept override EXCLUDES(mutex_);
  void request_leases() REQUIRES(mutex_);
  void assign(pool::Lease lease) REQUIRES(mutex_);

  void judge(pool::Lease& lease, Purpose purpose, const Status& failure) noexcept
      EXCLUDES(mutex_);
  void latch(const Status& why) EXCLUDES(mutex_);
  void shun(ByteRange range) EXCLUDES(mutex_);
  Status latched() const EXCLUDES(mutex_);
  Status refusal(ByteRange range) const REQUIRES(mutex_);
  // Changes are stable when they are acknowledged, whether asked for or not.
  [[nodiscard]] bool always_stable() const { return !capabilities().can_flush; }

  // Constant after construction.
  const VolumeOptions options_;
  pool::Pool& pool_;
  Clock& clock_;
  Stats& stats_;

  // Taken before the pool's mutex.
  mutable Mutex mutex_;
  ChangeQueue queue_ GUARDED_BY(mutex_);
  // Waits in the pool's line on behalf of ready changes.
  size_t requested_ GUARDED_BY(mutex_) = 0;
  // Connections with changes that are acknowledged and not yet stable.
  std::set<http::ConnectionId> dirty_ GUARDED_BY(mutex_);
  std::optional<Status> latched_ GUARDED_BY(mutex_);
  // Changes that failed and may yet be applied by the server.
  std::vector<ByteRange> uncertain_ GUARDED_BY(mutex_);
  // Until the next change.
  Extents extents_ GUARDED_BY(mutex_);
  uint64_t changes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace upload::volume
