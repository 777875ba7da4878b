// SPDX-License-Identifier: BSD-3-Clause
//
// Connection: exactly one TCP (or unix) connection to an origin, and at most
// one request at a time on it.
//
// A connection begins unopened. Its first request opens it; when it is gone
// it never comes back (invariant 3): a server keeps what is unflushed behind
// the connection that carried it, so a reopened one would be another thing
// under the same name.

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/clock.h"
#include "base/connection_id.h"
#include "base/status.h"
#include "http/message.h"

namespace upload::http {

struct Origin;

class Connection {
 public:
  virtual ~Connection() = default;

  // Sends the request and waits for the whole reply. Any HTTP status is a
  // Reply; a failure is kConnect (nothing was sent), kLost, kMalformed,
  // kInvalid (nothing was sent) or kNoMemory, and then the connection is
  // closed. Ends within the origin's time-outs.
  // One thread at a time.
  virtual Result<Reply> perform(const Request& request) = 0;

  // Not opened yet: the next request opens it.
  [[nodiscard]] virtual bool unopened() const = 0;

  // It was open and is not any more, here or on the other side, or the other
  // side has said something unasked. Asks the kernel only. Not while a request
  // is under way.
  [[nodiscard]] virtual bool closed() const = 0;
  // What made closed() true, for error texts.
  [[nodiscard]] virtual Status why_closed() const {
    return {Kind::kLost, "the server closed the connection while it was idle"};
  }

  // Makes a request that is under way fail soon, and any later one at once.
  // Any thread.
  virtual void abort() = 0;
};

// What a connection tells its pool, from within perform().
struct ConnectionEvents {
  // The connection is established, the request is about to be sent.
  std::function<void()> opened;
  // Bytes have moved.
  std::function<void()> progress;
};

// Makes an unopened connection.
using ConnectionFactory =
    std::function<std::unique_ptr<Connection>(ConnectionId, ConnectionEvents)>;
// To that origin.
using Connector = std::function<std::unique_ptr<Connection>(std::shared_ptr<const Origin>,
                                                            ConnectionId, ConnectionEvents)>;

}  // namespace upload::http
