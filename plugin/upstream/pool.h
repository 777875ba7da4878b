// SPDX-License-Identifier: BSD-3-Clause
//
// Pool: the bounded set of connections of one origin.
//
// A connection is idle, leased, or gone. Requests that find none idle and no
// room for another wait in one line, first come first served; a connection
// that comes back goes straight to the first waiter that can use it.
// New connections are opened one after another: servers make TLS handshakes one
// at a time anyway, and while one is refused nobody tries at once with more. (Those that take
// the place of one that was closed while it was idle are opened by who has its lease.)
//
// Thread safe.

#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "http/connection.h"
#include "upstream/lease.h"

namespace upload::upstream {

// Who has changes on the pool's connections: a volume. Called without any
// mutex of the pool; must not give back leases of others.
class PoolClient {
 public:
  virtual ~PoolClient() = default;
  // The connection is gone. Unflushed changes on it are lost.
  virtual void connection_lost(ConnectionId id, const Status& why) = 0;
  // Makes a request that keeps the connection and the client's own ticket
  // alive. Reports a failure by itself, to its own next request.
  virtual void keep_alive(Lease& lease) = 0;
};

// Who waits for a lease without blocking a thread.
class LeaseWaiter {
 public:
  virtual ~LeaseWaiter() = default;
  // Called once for each enqueued wait, on any thread, without any mutex of
  // the pool. A failure says why there will be no connection.
  virtual void granted(Result<Lease> lease) = 0;
};

struct PoolOptions {
  unsigned connections = 4;  // upper bound, at least 1
  Duration connect_timeout = std::chrono::seconds(10);
  Duration timeout = std::chrono::seconds(60);
};

class Pool {
 public:
  // `clock` outlives the pool.
  Pool(const PoolOptions& options, http::ConnectionFactory factory, Clock& clock);
  // Every lease must have been given back.
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Clients outlive their membership. Not while a lease is out.
  void add_client(PoolClient& client) EXCLUDES(mutex_);
  void remove_client(PoolClient& client) EXCLUDES(mutex_);

  // Waits for any connection. Fails with kPoolWait at give_up_at(), with
  // kShutdown, or with kConnect when none can be opened.
  [[nodiscard]] Result<Lease> lease() EXCLUDES(mutex_);
  // Waits for that connection. Fails with kLost when it is gone.
  [[nodiscard]] Result<Lease> lease(ConnectionId id) EXCLUDES(mutex_);
  // A lease if there is one now (or the failure kShutdown), else puts `waiter`
  // in line, once. A mutex of the caller may be held.
  [[nodiscard]] std::optional<Result<Lease>> lease_or_wait(LeaseWaiter& waiter) noexcept
      EXCLUDES(mutex_);

  // When a wait that began at `since` is hopeless: nothing at all has moved
  // on any connection for longer than a connection may take to open and then
  // stall. A slow link that moves is waited for.
  [[nodiscard]] TimePoint give_up_at(TimePoint since) const;
  // The error of such a wait; says who holds the connections.
  [[nodiscard]] Status wait_failure() const EXCLUDES(mutex_);

  // Since when the connection that has been idle for longest is idle; when
  // there are no connections at all, since when. Nothing if all are leased.
  [[nodiscard]] std::optional<TimePoint> idle_since() const EXCLUDES(mutex_);
  // Leases what idle_since() speaks of, if that is not after `before`. With
  // no connections at all: an unopened one. Never waits.
  [[nodiscard]] std::optional<Lease> lease_idle(TimePoint before) EXCLUDES(mutex_);
  // Calls every client's keep_alive() with the lease.
  void keep_alive(Lease& lease) EXCLUDES(mutex_);

  // Makes requests under way fail soon, and refuses waits from now on.
  void abort_requests() EXCLUDES(mutex_);
  // Refuses waits from now on, aborts requests under way, waits for their
  // leases, closes all connections.
  void close() EXCLUDES(mutex_);

  [[nodiscard]] unsigned limit() const { return options_.connections; }

 private:
  friend class Lease;
  struct Waiter {
    LeaseWaiter* who;
    std::optional<ConnectionId> wanted;
  };
  // What is to be called once the mutex is free.
  struct Grant {
    LeaseWaiter* who;
    Result<Lease> lease;
  };
  class BlockingWaiter;

  Result<Lease> wait_for(std::optional<ConnectionId> wanted) EXCLUDES(mutex_);
  std::optional<Lease> take_any() REQUIRES(mutex_);
  std::optional<Lease> take_idle(ConnectionId id) REQUIRES(mutex_);
  Slot& add_slot() REQUIRES(mutex_);
  std::unique_ptr<http::Connection> remove_slot(Slot& slot) REQUIRES(mutex_);
  std::vector<Grant> match_waiters() REQUIRES(mutex_);
  std::vector<Grant> fail_waiters(const Status& why, std::optional<ConnectionId> wanted)
      REQUIRES(mutex_);
  void hand_out(std::vector<Grant> grants) noexcept EXCLUDES(mutex_);
  bool withdraw(LeaseWaiter& waiter) EXCLUDES(mutex_);
  void opened(ConnectionId id) noexcept EXCLUDES(mutex_);
  void moved();
  // The ends of a lease.
  void return_slot(Slot& slot) noexcept EXCLUDES(mutex_);
  void retire_slot(Slot& slot, const Status& why) noexcept EXCLUDES(mutex_);
  void replace_connection(Slot& slot, const Status& why) noexcept EXCLUDES(mutex_);
  void tell_lost(ConnectionId id, const Status& why) EXCLUDES(mutex_);
  std::unique_ptr<http::Connection> make_connection(ConnectionId id);
  std::string describe_connections() const REQUIRES(mutex_);

  // Constant after construction.
  const PoolOptions options_;
  const http::ConnectionFactory factory_;
  Clock& clock_;

  // Its own synchronisation: the clock's time when bytes last moved.
  std::atomic<Duration::rep> last_progress_;

  mutable Mutex mutex_;
  std::vector<PoolClient*> clients_ GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Slot>> slots_ GUARDED_BY(mutex_);
  // Least recently used first.
  std::vector<Slot*> idle_ GUARDED_BY(mutex_);
  std::list<Waiter> waiters_ GUARDED_BY(mutex_);
  ConnectionId last_id_ GUARDED_BY(mutex_) = 0;
  // The connection that is being opened; 0: none.
  ConnectionId opening_ GUARDED_BY(mutex_) = 0;
  TimePoint empty_since_ GUARDED_BY(mutex_);
  bool closing_ GUARDED_BY(mutex_) = false;
  CondVar all_back_;
};

}  // namespace upload::upstream
