// SPDX-License-Identifier: BSD-3-Clause
//
// What a server speaks: from a request that was read to the reply that answers it.

#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "exchange.h"
#include "http_reader.h"
#include "reply.h"
#include "server_state.h"
#include "sessions.h"

namespace upload::testserver {

/// One protocol, for one connection, on the connection's thread. Faults, counters and the order
/// of steps are the RequestHandler's.
class Protocol {
 public:
  Protocol() = default;
  virtual ~Protocol() = default;
  Protocol(const Protocol&) = delete;
  Protocol& operator=(const Protocol&) = delete;

  /// Finds out what is asked for and whether it is allowed, without touching anything: sets
  /// operation, ticket and range, or the refusal. It may read a small body.
  virtual void classify(HttpReader& http, Exchange& exchange) = 0;

  /// Does what a request that is not refused asks for.
  [[nodiscard]] virtual Reply perform(HttpReader& http, Exchange& exchange) = 0;

  /// An error reply in the protocol's own form.
  [[nodiscard]] virtual Reply refused(const Refusal& refusal) const = 0;

  /// Applies a change with the data that its body had (none for a zero), long after its
  /// connection has gone; says whether it was applied. Called from another thread, so it must not
  /// use this object.
  using LateChange = std::function<bool(std::span<const char> data)>;
  [[nodiscard]] virtual LateChange late_change(const Exchange& exchange) const;
};

/// The one that the options name. `state` and `sessions` outlive it.
[[nodiscard]] std::unique_ptr<Protocol> make_protocol(ServerState& state, Sessions& sessions);

/// Where a ticket is found: the path of its URL.
[[nodiscard]] std::string path_of(const ServerOptions& options, const std::string& ticket_id);

/// 500, of one line.
[[nodiscard]] Refusal storage_error(const std::string& what);

}  // namespace upload::testserver
