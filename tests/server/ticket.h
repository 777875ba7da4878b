// SPDX-License-Identifier: BSD-3-Clause
//
// Tickets: the images that clients may use, and for how long.

#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backend.h"
#include "blob.h"
#include "byte_range.h"
#include "counters.h"
#include "options.h"

namespace upload::testserver {

/// Thread safe.
class Ticket {
 public:
  Ticket(TicketOptions options, std::shared_ptr<Backend> backend);

  [[nodiscard]] const TicketOptions& options() const { return options_; }
  [[nodiscard]] Backend& backend() const { return *backend_; }
  [[nodiscard]] std::uint64_t size() const { return backend_->size(); }
  [[nodiscard]] unsigned max_readers() const;
  [[nodiscard]] unsigned max_writers() const;

  enum class State { valid, expired, removed };
  [[nodiscard]] State state() const;
  void set_state(State state);
  /// An operation was completed: the time until expiry starts again.
  void touch();

  /// What Azure knows of it besides its bytes; null until set. Blobs makes it.
  [[nodiscard]] std::shared_ptr<Blob> blob() const;
  void set_blob(std::shared_ptr<Blob> blob);

  /// A change has begun. False if one of another connection, whose client has not gone,
  /// is under way on an overlapping range. `gone` is called until end_change().
  [[nodiscard]] bool begin_change(ConnectionId connection, const ByteRange& range, PeerGone gone);
  void end_change(ConnectionId connection);

 private:
  using Clock = std::chrono::steady_clock;

  struct ActiveChange {
    ConnectionId connection;
    ByteRange range;
    PeerGone gone;
  };

  const TicketOptions options_;
  const std::shared_ptr<Backend> backend_;

  mutable std::mutex mutex_;  // protects all below
  State state_ = State::valid;
  Clock::time_point last_use_;
  std::shared_ptr<Blob> blob_;
  std::vector<ActiveChange> active_;  // at most one for each connection
};

/// Thread safe. All tickets of a server by their id.
class TicketStore {
 public:
  /// Replaces the one of the same id; connections that use that one keep it.
  void add(std::shared_ptr<Ticket> ticket);
  /// Null if there is none.
  [[nodiscard]] std::shared_ptr<Ticket> find(const std::string& id) const;
  /// Whoever makes an image for a client holds it, so that one name is given once.
  [[nodiscard]] std::unique_lock<std::mutex> lock_names() {
    return std::unique_lock(names_mutex_);
  }
  /// By their ids.
  [[nodiscard]] std::vector<std::shared_ptr<Ticket>> all() const;

 private:
  std::mutex names_mutex_;

  mutable std::mutex mutex_;  // protects tickets_
  std::map<std::string, std::shared_ptr<Ticket>> tickets_;
};

}  // namespace upload::testserver
