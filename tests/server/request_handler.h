// SPDX-License-Identifier: BSD-3-Clause
//
// The steps that every request goes through, whatever the protocol, and the faults on its way.

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "channel.h"
#include "exchange.h"
#include "http_reader.h"
#include "protocol.h"
#include "reply.h"
#include "server_state.h"
#include "sessions.h"

namespace upload::testserver {

/// Belongs to one connection and its thread; the channel, which outlives it, is the
/// connection's.
class RequestHandler {
 public:
  RequestHandler(ServerState& state, ConnectionId connection, Channel& channel);

  /// Handles the request whose header `http` has just read; fills in `exchange`. When the
  /// reply is not a dropped one the body has been read, or the reply closes, or it says
  /// Reply::body_follows.
  [[nodiscard]] Reply handle(HttpReader& http, Exchange& exchange);

  /// Drops the storage clients, and with them what was not flushed.
  void close_sessions() { sessions_.close(); }

  /// How long the connection may wait for a request; 0: no bound.
  [[nodiscard]] std::chrono::milliseconds idle_timeout() const;

  /// Waits out a stall; false when the client went away or the server stops.
  [[nodiscard]] bool stall();

 private:
  void limit_requests(const HttpReader& http, Reply& reply);
  [[nodiscard]] Reply answer(HttpReader& http, Exchange& exchange);
  [[nodiscard]] Reply refuse(HttpReader& http, const Refusal& refusal);
  [[nodiscard]] std::optional<Reply> fault_before(HttpReader& http, Exchange& exchange);
  [[nodiscard]] std::optional<Reply> fault_instead(HttpReader& http, Exchange& exchange);
  [[nodiscard]] std::optional<Reply> fault_after(Exchange& exchange);
  [[nodiscard]] Reply status_reply(const Fault& fault, const Exchange& exchange);
  [[nodiscard]] std::function<void()> late_change(const Exchange& exchange,
                                                  std::vector<char> data);

  ServerState& state_;
  const ConnectionId connection_;
  Channel& channel_;
  Sessions sessions_;
  const std::unique_ptr<Protocol> protocol_;
  unsigned requests_ = 0;
};

}  // namespace upload::testserver
