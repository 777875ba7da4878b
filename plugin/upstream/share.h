// SPDX-License-Identifier: BSD-3-Clause
//
// Share: a volume's side of a pool, and what the pool asks and tells volumes. What a share
// may get is the pool's to decide.

#pragma once

#include <atomic>
#include <list>
#include <optional>

#include "base/clock.h"
#include "base/status.h"
#include "upstream/lease.h"

namespace upload::upstream {

// Who has changes on the pool's connections: a volume. Called without any
// mutex of the pool; must not give back leases of others.
class PoolClient {
 public:
  virtual ~PoolClient() = default;
  // The connection is gone. Unflushed changes on it are lost.
  virtual void connection_lost(ConnectionId id, const Status& why) = 0;
  // The client has unflushed changes on it.
  [[nodiscard]] virtual bool is_dirty(ConnectionId id) const = 0;
  // When the server last did what the client's own ticket was needed for.
  [[nodiscard]] virtual TimePoint ticket_used() const = 0;
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

// Share: one client's part in a pool: its line of waiters, and the count of its leases.
// Thread safe, but for its making and its end: then none of the pool's leases is out, or the
// client has had none yet.
class Share {
 public:
  // `pool` outlives the share.
  explicit Share(Pool& pool);
  // The client has no lease, and waits for none.
  ~Share();
  Share(const Share&) = delete;
  Share& operator=(const Share&) = delete;

  // Who is told of what the share's leases have carried; outlives its membership.
  void set_client(PoolClient& client);
  void remove_client();
  // Null: there is none.
  [[nodiscard]] PoolClient* client() const;

  // Waits for any connection. Fails with kPoolWait at give_up_at(), with
  // kShutdown, or with kConnect when none can be opened. `stopped`: set if the process was
  // stopped meanwhile; may be null.
  [[nodiscard]] Result<Lease> lease(bool* stopped = nullptr);
  // Waits for that connection. Fails with kLost when it is gone.
  [[nodiscard]] Result<Lease> lease(ConnectionId id);
  // A lease if there is one now (or the failure kShutdown), else puts `waiter`
  // in line, once. A mutex of the caller may be held.
  [[nodiscard]] std::optional<Result<Lease>> lease_or_wait(LeaseWaiter& waiter) noexcept;

  // When a wait that began at `since` is hopeless: nothing at all has moved on the
  // connections leased by this share, or, if there are none, on any, for longer than a
  // connection may take to open and then stall. A slow link that moves is waited for.
  [[nodiscard]] TimePoint give_up_at(TimePoint since) const;
  // The error of such a wait; says who holds the connections.
  [[nodiscard]] Status wait_failure() const;
  // One of its own; the keeper's is none.
  [[nodiscard]] bool has_lease() const;
  // Upper bound of its leases.
  [[nodiscard]] unsigned limit() const;

  // Makes requests under way on the share's leases fail soon, and refuses waits from now on.
  void abort_requests();

 private:
  friend class Pool;
  struct Waiter {
    LeaseWaiter* who;
    std::optional<ConnectionId> wanted;
  };

  Pool& pool_;

  // The pool's mutex guards these.
  PoolClient* client_ = nullptr;
  std::list<Waiter> waiters_;
  unsigned leases_ = 0;
  uint64_t served_ = 0;         // the pool's count of leases when it got its last
  TimePoint last_lease_ended_;  // when it had none any more
  bool closing_ = false;

  // Its own synchronisation: the clock's time when bytes last moved on its leases.
  std::atomic<Duration::rep> last_progress_;
};

}  // namespace upload::upstream
