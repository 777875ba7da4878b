// SPDX-License-Identifier: BSD-3-Clause
//
// One request while it is handled.

#pragma once

#include <memory>
#include <optional>
#include <string>

#include "api_syntax.h"
#include "fault_plan.h"
#include "http_syntax.h"
#include "ticket.h"

namespace upload::testserver {

/// A plain value of the connection's thread. A Protocol fills it in, the RequestHandler adds the
/// fault.
struct Exchange {
  Op op = Op::other;
  Target target{};
  std::string ticket_id{};
  std::shared_ptr<Ticket> ticket{};  // null if refused, or if there is none (yet)
  ByteRange range{};                 // of a change or get; within the ticket
  bool partial = false;              // get: there was a Range
  bool flush = false;                // put and zero: flush afterwards
  bool head_only = false;            // HEAD
  ChecksumQuery checksum{};
  std::optional<Refusal> refusal{};
  FiredFault fault{};

  [[nodiscard]] bool is_change() const { return op == Op::put || op == Op::zero; }
  [[nodiscard]] bool meets(Action action) const { return fault && fault->action == action; }
};

}  // namespace upload::testserver
