// SPDX-License-Identifier: BSD-3-Clause
//
// Volume: one remote disk, and the data path of everything done to it.
//
// Promises, to NBD clients:
//   - flush() succeeds only when every change that was acknowledged before it
//     was called is stable (invariant 5);
//   - when a change that was acknowledged may be lost, an error latches, and
//     every later request fails with it (invariants 2, 4, 6); with a replay
//     log it is sent again first, and requests wait meanwhile;
//   - for overlapping changes the order of acknowledgement is the order on
//     the server (invariant 7); after a change whose fate is unknown, others
//     that overlap it fail.
//   - for overlapping changes the order of acknowledgement is the order on
//     the server (invariant 7).
//
// Thread safe: each method blocks its caller, and any number of threads call.

#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/stats.h"
#include "journal/replay_log.h"
#include "pool/pool.h"
#include "target/target.h"
#include "volume/change_queue.h"
#include "volume/retry.h"

namespace upload::volume {

struct VolumeOptions {
  std::string name;  // for error texts; no secret in it
  std::shared_ptr<const target::Target> target;
  target::Capabilities capabilities;
  uint64_t size = 0;  // bytes
  BatchLimits limits;
  uint64_t replay = 0;  // bytes for the replay log; 0: none
  // With a replay log: how long to try again before the error latches.
  Duration retry_time = std::chrono::seconds(300);
  // How long after the loss of a connection its last request may still be
  // applied by the server.
  Duration late = std::chrono::seconds(60);
};

using Extents = std::shared_ptr<const std::vector<target::Extent>>;

class Volume final : public pool::PoolClient, private pool::LeaseWaiter {
 public:
  // `pool`, `clock` and `stats` outlive the volume.
  Volume(VolumeOptions options, pool::Pool& pool, Clock& clock, Stats& stats);
  // No request is under way. After request_stop() and join().
  ~Volume() override;

  // Ends waits for the server to come back; join() after Pool::close().
  void request_stop() EXCLUDES(mutex_);
  void join();

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
  // A range that a server may yet change behind our back, see shun().
  struct Uncertain {
    ByteRange range;
    uint64_t owner;  // Change::sequence of who has it in hand; 0: nobody
    TimePoint until;
  };

  // The path of a change, in its order (volume.cpp).
  Status commit(Change& change) noexcept EXCLUDES(mutex_);
  Status admit(const Change& change, uint64_t cost) REQUIRES(mutex_);
  void unreserve(uint64_t cost) REQUIRES(mutex_);
  void wait_for_turn(Change& change) REQUIRES(mutex_);
  void request_leases() REQUIRES(mutex_);
  void granted(Result<pool::Lease> lease) noexcept override EXCLUDES(mutex_);
  void assign(Result<pool::Lease> lease) REQUIRES(mutex_);
  Status lead(std::optional<pool::Lease>& lease, const Change& leader) EXCLUDES(mutex_);
  Status attempt(pool::Lease& lease, const Change& leader) EXCLUDES(mutex_);
  Status send(pool::Lease& lease, const Change& leader) EXCLUDES(mutex_);
  http::Request make_request(const std::vector<Change*>& batch, bool stable) const;
  void acknowledge(const std::vector<Change*>& batch, http::ConnectionId id,
                   std::vector<journal::RecordPtr> records) REQUIRES(mutex_);
  void finish(const std::vector<Change*>& changes, const Status& result) REQUIRES(mutex_);

  Status read_from_server(ByteRange range, void* data) EXCLUDES(mutex_);
  Status flush_connection(http::ConnectionId id) EXCLUDES(mutex_);
  Status flush_lease(pool::Lease& lease, Purpose purpose) noexcept EXCLUDES(mutex_);

  // What failures mean.
  void judge(pool::Lease& lease, Purpose purpose, const Status& failure) noexcept
      EXCLUDES(mutex_);
  void latch(const Status& why) EXCLUDES(mutex_);
  void set_latched(const Status& status) REQUIRES(mutex_);
  Status latched() const EXCLUDES(mutex_);
  void shun(ByteRange range, uint64_t owner) EXCLUDES(mutex_);
  const Uncertain* uncertain_about(ByteRange range, uint64_t owner) REQUIRES(mutex_);

  // Replay (recovery.cpp).
  Status flush_until_stable() EXCLUDES(mutex_);
  bool wait_to_retry(Retry& retry, const Status& failure, bool latches) EXCLUDES(mutex_);
  void note_outage(const Status& why) EXCLUDES(mutex_);
  void note_success() EXCLUDES(mutex_);
  void recover() EXCLUDES(mutex_);
  bool wait_for_work() EXCLUDES(mutex_);
  void replay(ByteRange range) EXCLUDES(mutex_);
  Status send_again(const std::vector<journal::Slice>& slices, uint64_t owner)
      EXCLUDES(mutex_);
  Status send_once(const std::vector<journal::Slice>& slices, uint64_t owner)
      EXCLUDES(mutex_);

  // Changes are stable when they are acknowledged, whether asked for or not.
  [[nodiscard]] bool always_stable() const { return !capabilities().can_flush; }
  [[nodiscard]] bool replays() const { return options_.replay > 0; }

  // Constant after construction.
  const VolumeOptions options_;
  pool::Pool& pool_;
  Clock& clock_;
  Stats& stats_;

  const std::shared_ptr<journal::Memory> log_memory_;

  // Its own synchronisation: a look at outage_since_ without the mutex.
  std::atomic<bool> outage_ = false;

  // Taken before the pool's mutex.
  mutable Mutex mutex_;
  ChangeQueue queue_ GUARDED_BY(mutex_);
  // Waits in the pool's line on behalf of ready changes.
  size_t requested_ GUARDED_BY(mutex_) = 0;
  // Connections with changes that are acknowledged and not yet stable.
  std::set<http::ConnectionId> dirty_ GUARDED_BY(mutex_);
  std::optional<Status> latched_ GUARDED_BY(mutex_);
  std::vector<Uncertain> uncertain_ GUARDED_BY(mutex_);
  // Until the next change.
  Extents extents_ GUARDED_BY(mutex_);
  uint64_t changes_ GUARDED_BY(mutex_) = 0;
  // Not used, and empty, without replay.
  journal::ReplayLog log_ GUARDED_BY(mutex_);
  std::optional<TimePoint> outage_since_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  // There may be work for the recovery thread.
  CondVar work_;
  // Something that others wait for has changed: room in the log, orphans that
  // were sent again, an error, the end.
  CondVar changed_;

  std::thread recovery_;  // last: it uses the others
};

}  // namespace upload::volume
