// SPDX-License-Identifier: BSD-3-Clause
//
// The storage clients of one connection.

#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "channel.h"
#include "ticket.h"

namespace upload::testserver {

/// Keeps the storage client of every ticket that the connection has used. Belongs to the
/// connection's thread; the channel, which outlives it, is the connection's.
class Sessions {
 public:
  /// With `heeds_peer` no change is applied whose client has gone.
  Sessions(ConnectionId connection, Channel& channel, bool heeds_peer)
      : connection_(connection), channel_(channel), heeds_peer_(heeds_peer) {}

  /// Opened when it is asked for; null with `error` set (one line) when it can't be.
  [[nodiscard]] Session* open(const std::shared_ptr<Ticket>& ticket, std::string& error);
  /// Null when this connection has not used the ticket.
  [[nodiscard]] Session* find(const std::shared_ptr<Ticket>& ticket) const;

  /// Drops all, and with them what was not flushed.
  void close() { sessions_.clear(); }

  /// How long the tickets let an idle connection live; 0: they don't say.
  [[nodiscard]] std::chrono::milliseconds idle_timeout() const { return idle_; }

 private:
  const ConnectionId connection_;
  Channel& channel_;
  const bool heeds_peer_;
  std::chrono::milliseconds idle_{0};
  std::map<std::shared_ptr<Ticket>, std::unique_ptr<Session>> sessions_;
};

}  // namespace upload::testserver
