// SPDX-License-Identifier: BSD-3-Clause
//
// What the server has seen so far, as plain values: a snapshot of counters and the
// entries of the event log.

#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "byte_range.h"
#include "fault.h"

namespace upload::testserver {

/// Names a connection for as long as the Server exists; counted from 1, never reused.
using ConnectionId = std::uint64_t;

/// A consistent snapshot. Everything counts from the construction of the server.
/// Amounts are in bytes. Gauges say so.
struct Counters {
  std::uint64_t connections_accepted = 0;  // TCP and unix, the refused ones too
  std::uint64_t connections_open = 0;      // gauge; goes down when the unflushed changes
                                           // of the connection have been dropped
  std::uint64_t max_connections_open = 0;
  std::uint64_t tls_handshakes = 0;          // completed
  std::uint64_t tls_handshake_failures = 0;  // a peer that just goes away included

  std::array<std::uint64_t, kOpCount> requests{};  // by Op; `any` stays 0
  std::uint64_t active_requests = 0;               // gauge: header read, reply not yet begun
  std::uint64_t max_active_requests = 0;
  std::uint64_t stalled = 0;        // gauge: requests (and handshakes) held by a stall
  std::uint64_t replies = 0;        // begun
  std::uint64_t error_replies = 0;  // of these, with a status from 400 on

  std::uint64_t bytes_put = 0;            // applied
  std::uint64_t bytes_zeroed = 0;         // applied
  std::uint64_t bytes_got = 0;            // asked for by successful gets
  std::uint64_t changes = 0;              // puts and zeroes that were applied
  std::uint64_t flushes = 0;              // flushes that were done, those of flush=y included
  std::uint64_t overlapping_changes = 0;  // changes that began while one of another
                                          // living connection was under way on an
                                          // overlapping range; a correct client: 0
  std::uint64_t bytes_lost = 0;           // unflushed when their connection went or failed
  std::uint64_t late_applied = 0;         // changes applied after their connection had gone
  std::uint64_t late_refused = 0;         // and those that their protocol did not let through
  std::uint64_t faults_fired = 0;

  [[nodiscard]] std::uint64_t requests_of(Op op) const {
    return requests[static_cast<std::size_t>(op)];
  }

  /// All HTTP requests.
  [[nodiscard]] std::uint64_t total_requests() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : requests) {
      sum += count;
    }
    return sum;
  }
};

/// One line of JSON without a line feed.
[[nodiscard]] std::string to_json(const Counters& counters);

/// One request, logged when it was done and before its reply is begun.
struct Event {
  ConnectionId connection = 0;
  Op op = Op::other;
  std::string ticket{};
  ByteRange range{};  // zero for what has none
  bool flush = false;
  int status = 0;  // of the reply; 0: a fault closed the connection without one
};

}  // namespace upload::testserver
