// SPDX-License-Identifier: BSD-3-Clause
//
// The names of operations and actions, as the command line and failure messages use
// them. Each enumerator is spelled like in the code, and each table is in the order of
// its enum, which a static_assert on the table's last entry keeps true.
//
// Threads: constant tables only, any thread. Errors: an unknown name is an empty
// optional. It does not know which action makes sense for which operation.

#include "fault.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace upload::testserver {

namespace {

constexpr std::array<std::string_view, kOpCount> kOpNames = {
    "any",   "connect", "options", "get",    "put",   "zero",     "flush",    "extents",
    "other", "head",    "create",  "remove", "lease", "metadata", "checksum", "algorithms"};

constexpr std::string_view kActionNames[] = {
    "close_before_body",
    "reset",
    "answer_before_body",
    "stall",
    "delay",
    "close_mid_body",
    "close_after_body",
    "status",
    "server_busy",
    "operation_timed_out",
    "close_after_apply",
    "reset_after_apply",
    "stall_after_apply",
    "close_mid_reply",
    "truncate_reply_body",
    "garbage_status_line",
    "garbage",
    "connection_close",
    "close_after_reply",
    "raw_json",
    "chunked",
    "no_content_length",
    "lie_short_content_length",
    "lie_long_content_length",
    "wrong_content_range",
    "wrong_status_200_on_get",
    "no_handshake",
    "refuse",
};

static_assert(static_cast<std::size_t>(Op::algorithms) == kOpCount - 1);
static_assert(static_cast<std::size_t>(Action::refuse) == std::size(kActionNames) - 1);

}  // namespace

std::string_view name_of(Op op) { return kOpNames[static_cast<std::size_t>(op)]; }

std::string_view name_of(Action action) { return kActionNames[static_cast<std::size_t>(action)]; }

std::optional<Op> parse_op(std::string_view name) {
  const auto* found = std::find(std::begin(kOpNames), std::end(kOpNames), name);
  if (found == std::end(kOpNames)) {
    return std::nullopt;
  }
  return static_cast<Op>(found - std::begin(kOpNames));
}

std::optional<Action> parse_action(std::string_view name) {
  const auto* found = std::find(std::begin(kActionNames), std::end(kActionNames), name);
  if (found == std::end(kActionNames)) {
    return std::nullopt;
  }
  return static_cast<Action>(found - std::begin(kActionNames));
}

}  // namespace upload::testserver
