// SPDX-License-Identifier: BSD-3-Clause
//
// One connection of a client, from accept to close.

#pragma once

#include <mutex>
#include <optional>

#include "channel.h"
#include "fault_plan.h"
#include "http_reader.h"
#include "request_handler.h"
#include "server_state.h"
#include "tls_context.h"

namespace upload::testserver {

class Connection {
 public:
  /// `tls` is null for plain HTTP, else it outlives the connection. `fault` is what the
  /// connection meets when it is accepted; may be null.
  Connection(ServerState& state, ConnectionId id, FileDescriptor fd, SSL_CTX* tls,
             FiredFault fault);

  /// Serves until the connection has been closed. The caller's thread is the owner.
  void run();

  // Any thread.
  /// Makes run() end soon, with a silent close.
  void drop();
  /// The same, and true, if no request is being served and none has arrived.
  [[nodiscard]] bool drop_if_idle();
  /// Something has changed that a waiting connection should look at.
  void wake() { channel_.wake(); }

 private:
  [[nodiscard]] bool meet_fault();
  [[nodiscard]] bool handshake();
  [[nodiscard]] bool wait_for_request();
  [[nodiscard]] std::optional<CloseMode> serve_one();
  [[nodiscard]] std::optional<CloseMode> refuse_malformed(const std::string& problem);
  void finish(CloseMode mode);

  ServerState& state_;
  SSL_CTX* const tls_;
  const FiredFault fault_;

  Channel channel_;  // its own synchronisation

  // The owner's.
  HttpReader reader_;
  RequestHandler handler_;
  std::function<void()> after_close_;

  std::mutex mutex_;  // protects all below
  bool idle_ = false;
  bool dropped_ = false;
};

}  // namespace upload::testserver
