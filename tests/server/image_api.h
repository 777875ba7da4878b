// SPDX-License-Identifier: BSD-3-Clause
//
// The images API: from a request that was read to the reply that answers it.

#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api_syntax.h"
#include "channel.h"
#include "fault_plan.h"
#include "http_reader.h"
#include "reply.h"
#include "server_state.h"

namespace upload::testserver {

/// One request while it is handled.
struct Exchange {
  Op op = Op::other;
  Target target{};
  std::string ticket_id{};
  std::shared_ptr<Ticket> ticket{};  // null if refused
  ByteRange range{};                 // of a change or get; within the ticket
  bool partial = false;              // get: there was a Range
  bool flush = false;                // put and zero: flush afterwards
  bool head_only = false;            // HEAD
  std::optional<Refusal> refusal{};
  FiredFault fault{};

  [[nodiscard]] bool is_change() const { return op == Op::put || op == Op::zero; }
  [[nodiscard]] bool meets(Action action) const { return fault && fault->action == action; }
};

/// What one connection knows: it keeps the storage client of every ticket that the
/// connection has used. Belongs to the connection's thread; the channel, which outlives
/// it, is the connection's.
class ImageApi {
 public:
  ImageApi(ServerState& state, ConnectionId connection, Channel& channel);

  /// Handles the request whose header `http` has just read; fills in `exchange`. When the
  /// reply is not a dropped one the body has been read or the reply closes.
  [[nodiscard]] Reply handle(HttpReader& http, Exchange& exchange);

  /// Drops the storage clients, and with them what was not flushed.
  void close_sessions() { sessions_.clear(); }

  /// How long the connection may wait for a request; 0: no bound.
  [[nodiscard]] std::chrono::milliseconds idle_timeout() const;

  /// Waits out a stall; false when the client went away or the server stops.
  [[nodiscard]] bool stall();

 private:
  // Reading what is asked for; these set the refusal if it cannot be.
  void classify(HttpReader& http, Exchange& exchange);
  void read_put(HttpReader& http, Exchange& exchange);
  void read_get(HttpReader& http, Exchange& exchange);
  [[nodiscard]] bool read_patch(HttpReader& http, Exchange& exchange);
  void authorize(HttpReader& http, Exchange& exchange);
  void limit_range(Exchange& exchange);

  // Doing it.
  [[nodiscard]] Reply answer(HttpReader& http, Exchange& exchange);
  [[nodiscard]] std::optional<Reply> fault_before(HttpReader& http, Exchange& exchange);
  [[nodiscard]] std::optional<Reply> fault_instead(HttpReader& http, Exchange& exchange);
  [[nodiscard]] Reply perform(HttpReader& http, Exchange& exchange);
  [[nodiscard]] std::optional<Reply> fault_after(Exchange& exchange);
  [[nodiscard]] Reply put(HttpReader& http, Exchange& exchange, Session& session);
  [[nodiscard]] Reply zero(Exchange& exchange, Session& session);
  [[nodiscard]] Reply flush(Session& session);
  [[nodiscard]] Reply get(Exchange& exchange, Session& session);
  [[nodiscard]] Reply extents(Exchange& exchange, Session& session);
  [[nodiscard]] Reply options(Exchange& exchange);
  [[nodiscard]] std::string options_json(const Exchange& exchange) const;

  [[nodiscard]] bool drain(HttpReader& http);
  [[nodiscard]] Reply status_reply(const Fault& fault, const Exchange& exchange);
  [[nodiscard]] std::function<void()> late_change(const Exchange& exchange,
                                                  std::vector<char> data);
  [[nodiscard]] Session* session_of(const std::shared_ptr<Ticket>& ticket, std::string& error);

  ServerState& state_;
  const ConnectionId connection_;
  Channel& channel_;
  std::vector<char> buffer_;  // of bodies; grows to the largest chunk that was needed
  std::chrono::milliseconds ticket_idle_{0};
  std::map<std::shared_ptr<Ticket>, std::unique_ptr<Session>> sessions_;
};

}  // namespace upload::testserver
