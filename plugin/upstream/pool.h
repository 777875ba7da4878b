// SPDX-License-Identifier: BSD-3-Clause
//
// Pool: the bounded set of connections of one origin, shared by all volumes there.
//
// A connection is idle, leased, or gone. Requests that find none idle and no
// room for another wait in the line of their volume, first come first served; a connection
// that comes back goes straight to a waiter that can use it: of the volume that has the
// fewest leases, and among those with equally many, of the one that was served the longest ago.
//
// A volume whose server answers slowly, or not at all, has leases that last. So that others
// go on beside it (invariant 11), a volume that has a lease gets a further one only
//   - up to its part: the limit divided, rounded up, by the number of busy volumes; busy is
//     who has a lease, waits for one, or had one a second ago; and
//   - if another is left for a volume that has none.
// A volume that has no lease gets the next one. Alone, a volume gets all.
//
// What a volume has not flushed goes with the connection that carried it, whoever lost that.
// So a volume gets the connection that it used last, or a new one, before one of others.
//
// New connections are opened one after another: servers make TLS handshakes one
// at a time anyway, and while one is refused nobody tries at once with more. (Those that take
// the place of one that was closed while it was idle are opened by who has its lease.)
//
// Some servers end a connection after so many requests, and say so with the last reply. Where that
// loses nothing (PoolOptions::overlap) a connection of which only the last request is left does not
// count: whoever waits may open the next one while that goes on. After how many requests it ends is
// learned from one that has ended.
//
// Thread safe.

#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "http/connection.h"
#include "upstream/lease.h"
#include "upstream/share.h"

namespace upload::upstream {

struct PoolOptions {
  unsigned connections = 4;  // upper bound, at least 1
  Duration connect_timeout = std::chrono::seconds(10);
  Duration timeout = std::chrono::seconds(60);
  bool overlap = false;  // no volume ever has anything unflushed on a connection
};

// How a pool is doing at one moment, for whoever watches it from outside. Values.
struct PoolFigures {
  size_t idle = 0;
  size_t in_use = 0;   // leased, but for the one that is being opened
  size_t opening = 0;  // one at most
  size_t limit = 0;
  size_t waiters = 0;  // for a connection
  uint64_t made = 0;   // connections so far
};

class Pool {
 public:
  // `clock` outlives the pool.
  Pool(const PoolOptions& options, http::ConnectionFactory factory, Clock& clock);
  // Every lease must have been given back, and every share be gone.
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Since when the connection that has been idle for longest is idle. Nothing if none is.
  [[nodiscard]] std::optional<TimePoint> idle_since() const EXCLUDES(mutex_);
  // Leases that, on nobody's account, if that is not after `before`. Never waits.
  [[nodiscard]] std::optional<Lease> lease_idle(TimePoint before) EXCLUDES(mutex_);

  // All there are.
  [[nodiscard]] std::vector<Share*> shares() const EXCLUDES(mutex_);

  // Makes requests under way fail soon, and refuses waits from now on.
  void abort_requests() EXCLUDES(mutex_);
  // Refuses waits from now on, aborts requests under way, waits for their
  // leases, closes all connections.
  void close() EXCLUDES(mutex_);

  [[nodiscard]] PoolFigures figures() const EXCLUDES(mutex_);

  [[nodiscard]] unsigned limit() const { return limit_; }
  // For connections that are opened from now on; those there are stay. Not higher.
  void lower_limit(unsigned connections) EXCLUDES(mutex_);

 private:
  friend class Lease;
  friend class Share;
  // What is to be called once the mutex is free.
  struct Grant {
    LeaseWaiter* who;
    Result<Lease> lease;
  };
  class BlockingWaiter;

  void add(Share& share) EXCLUDES(mutex_);
  void remove(Share& share) EXCLUDES(mutex_);
  void set_client(Share& share, PoolClient* client) EXCLUDES(mutex_);
  PoolClient* client_of(const Share& share) const EXCLUDES(mutex_);
  bool has_lease(const Share& share) const EXCLUDES(mutex_);
  Result<Lease> wait_for(Share& share, std::optional<ConnectionId> wanted, bool* stopped)
      EXCLUDES(mutex_);
  std::optional<Result<Lease>> lease_or_wait(Share& share, LeaseWaiter& waiter) noexcept
      EXCLUDES(mutex_);
  TimePoint give_up_at(const Share& share, TimePoint since) const EXCLUDES(mutex_);
  Status wait_failure() const EXCLUDES(mutex_);
  void abort_requests(Share& share) EXCLUDES(mutex_);

  bool may_lease(const Share& share) const REQUIRES(mutex_);
  unsigned part_of_each() const REQUIRES(mutex_);
  std::optional<Lease> take(Share& share, std::optional<ConnectionId> wanted) REQUIRES(mutex_);
  Slot* find_any(const Share& share) REQUIRES(mutex_);
  Slot* find_idle(ConnectionId id) const REQUIRES(mutex_);
  [[nodiscard]] bool has_room() const REQUIRES(mutex_);
  void note_last_reply(const Slot& slot);
  Lease lease_slot(Slot& slot, Share* share) REQUIRES(mutex_);
  void end_lease(Slot& slot) REQUIRES(mutex_);
  Slot& add_slot() REQUIRES(mutex_);
  std::unique_ptr<http::Connection> remove_slot(Slot& slot) REQUIRES(mutex_);
  std::vector<Grant> match_waiters() REQUIRES(mutex_);
  std::optional<Grant> serve_one(Share& share) REQUIRES(mutex_);
  std::vector<Grant> fail_waiters(const Status& why, std::optional<ConnectionId> wanted)
      REQUIRES(mutex_);
  void hand_out(std::vector<Grant> grants) noexcept EXCLUDES(mutex_);
  bool withdraw(Share& share, LeaseWaiter& waiter) EXCLUDES(mutex_);
  void opened(ConnectionId id) noexcept EXCLUDES(mutex_);
  void moved(const Slot& slot);
  // The ends of a lease.
  void return_slot(Slot& slot) noexcept EXCLUDES(mutex_);
  void retire_slot(Slot& slot, const Status& why) noexcept EXCLUDES(mutex_);
  void replace_connection(Slot& slot, const Status& why) noexcept EXCLUDES(mutex_);
  void tell_lost(ConnectionId id, const Status& why) EXCLUDES(mutex_);
  // Any client has unflushed changes on it.
  bool is_dirty(ConnectionId id) EXCLUDES(mutex_);
  std::unique_ptr<http::Connection> make_connection(const Slot& slot);
  std::string describe_connections() const REQUIRES(mutex_);

  // Constant after construction.
  const PoolOptions options_;
  const http::ConnectionFactory factory_;
  Clock& clock_;

  // Looked at without the mutex.
  std::atomic<unsigned> limit_;
  // So many requests a connection carries, as far as is known; 0: nothing is known.
  std::atomic<unsigned> requests_each_ = 0;

  // Its own synchronisation: the clock's time when bytes last moved.
  std::atomic<Duration::rep> last_progress_;

  mutable Mutex mutex_;
  std::vector<Share*> shares_ GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Slot>> slots_ GUARDED_BY(mutex_);
  // Least recently used first.
  std::vector<Slot*> idle_ GUARDED_BY(mutex_);
  uint64_t leases_given_ GUARDED_BY(mutex_) = 0;
  ConnectionId last_id_ GUARDED_BY(mutex_) = 0;
  // The connection that is being opened; 0: none.
  ConnectionId opening_ GUARDED_BY(mutex_) = 0;
  bool closing_ GUARDED_BY(mutex_) = false;
  CondVar all_back_;
};

}  // namespace upload::upstream
