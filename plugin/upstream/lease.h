// SPDX-License-Identifier: BSD-3-Clause
//
// Lease: the exclusive, move-only right to use one connection of a pool.
//
// The destructor gives the connection back to the pool, or, when anything
// made it doubtful, retires it: the connection is closed and every client of
// the pool is told that it is lost. A transport failure, or a
// reply after which the server closes, retires it at once.
//
// A lease belongs to one thread at a time. It must not be destroyed while the
// pool's or a volume's mutex is held, since giving back calls others.

#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "base/status.h"
#include "http/connection.h"

namespace upload::upstream {

class Pool;
class Share;

// One of the pool's places for a connection. Belongs to the pool.
struct Slot {
  ConnectionId id = 0;
  std::unique_ptr<http::Connection> connection;
  TimePoint idle_since;                // the end of the last lease in which it was used
  bool performed = false;              // in this lease
  std::atomic<unsigned> requests = 0;  // over this connection
  // Whose lease it is; null: nobody's, or the keeper's.
  Share* leased_by = nullptr;
  // Who had the last lease of it that was on somebody's account; null: nobody.
  const Share* used_by = nullptr;
};

class Lease {
 public:
  Lease(Pool& pool, Slot& slot) : pool_(&pool), slot_(&slot) {}
  Lease(Lease&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        slot_(std::exchange(other.slot_, nullptr)),
        retired_(std::exchange(other.retired_, Status())) {}
  Lease& operator=(Lease&& other) noexcept;
  ~Lease() { give_back(); }

  [[nodiscard]] ConnectionId id() const { return slot_->id; }

  // Connection::perform(); what fails, or is the last reply, retires. Fails
  // with kLost, unsent, if the connection was closed while it was idle.
  Result<http::Reply> perform(const http::Request& request);

  // If the connection was closed by the other side while it was idle, tells
  // the pool's clients that it is lost and goes on with an unopened one in
  // its place. Clients that had unflushed changes on it have been told when this returns, and
  // may have latched an error: look before sending.
  void replace_if_closed();
  [[nodiscard]] bool closed() const { return slot_->connection->closed(); }
  // Connection::why_closed()
  [[nodiscard]] Status why_closed() const { return slot_->connection->why_closed(); }

  // The connection is doubtful: it is closed when the lease ends. The last reason
  // counts: the reader of a reply's content knows more than the one who received it.
  void retire(Status why);
  // Why; ok() if it is not retired.
  [[nodiscard]] const Status& retired() const { return retired_; }

  // Ends the lease early.
  void give_back() noexcept;

 private:
  Pool* pool_;
  Slot* slot_;
  Status retired_;
};

}  // namespace upload::upstream
