// SPDX-License-Identifier: BSD-3-Clause
//
// What the server can be told to do wrong. Plain values; the schedule that decides
// which request meets which fault is FaultPlan's.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace upload::testserver {

/// What a request is. `any` stands in a Fault for every HTTP request (not for connect);
/// `connect` is an accepted connection; `other` is what the protocol does not have
/// (an unknown path, a request that cannot be parsed).
///
/// Azure: `put` is Put Page, `zero` the same with clear, `extents` Get Page Ranges, `create` Put
/// Blob, `remove` Delete Blob; there is neither `options` nor `flush`.
/// WebDAV: `put` is a PUT with Content-Range, `create` one without, `remove` DELETE; there is
/// neither `zero` nor `flush` nor `extents`.
enum class Op {
  any,
  connect,
  options,
  get,
  put,
  zero,
  flush,
  extents,
  other,
  head,
  create,
  remove,
  lease,
  metadata,
  checksum,
  algorithms,
};

inline constexpr std::size_t kOpCount = 16;

/// What goes wrong. "Change" means put and zero. Unless the words say otherwise a change
/// (or flush) that meets a fault has been applied (or done) when the fault happens, and
/// every close is silent: no TLS close_notify.
enum class Action {
  // Before anything is done. The kind of a PATCH stands in its body, so for zero and
  // flush the (small) body has been read by then.
  close_before_body,   // the header was read, nothing else: close
  reset,               // the same, but with an RST
  answer_before_body,  // the header was read, nothing else: 200, `Connection: close`, close
  stall,               // no answer until release_stalled(), which lets the request go on
                       // as if nothing had been; nothing is done if the peer goes first
  delay,               // sleep for Fault::delay, then as usual

  close_mid_body,  // half of the body was read: close. What was read stays where the protocol
                   // applies bodies as they arrive (WebDAV), else nothing is applied; without a
                   // body as close_before_body

  // After the request was read, before it is done.
  close_after_body,  // not applied (but see late apply), close
  status,            // answer `status`, `headers`, `body`. From 400 on nothing is done,
                     // and see "Durability" in server.h for what is lost; below, all is
                     // done. With `early` the request's body is left unread and the
                     // connection closes after the reply, which says so

  server_busy,  // nothing is done: 503, by its name in the protocol, with Retry-After; `early` as
                // above
  operation_timed_out,  // nothing is done: 500, likewise

  // After the request was done.
  close_after_apply,         // no reply, close
  reset_after_apply,         // no reply, RST
  stall_after_apply,         // as stall, but only the reply is missing
  close_mid_reply,           // the first half of the reply's header, with `early` of its first
                             // line, close. (libcurl 7.88 takes a header that is cut after
                             // the status line for a complete reply.)
  truncate_reply_body,       // Content-Length says N, N/2 bytes follow, close; where the reply
                             // has no body one is made up
  garbage_status_line,       // a line that is no HTTP, then the rest of the header, close
  garbage,                   // random bytes, close
  connection_close,          // the reply with `Connection: close`, close
  close_after_reply,         // the reply without saying so, close
  raw_json,                  // 200, application/json and `body`
  chunked,                   // the reply with chunked transfer-encoding
  no_content_length,         // the reply without a length, ended by a close (close_notify)
  lie_short_content_length,  // Content-Length is half of what follows; stays open
  lie_long_content_length,   // Content-Length is 64 more than what follows; stays open
  wrong_content_range,       // get: 206 and the data, but Content-Range is 512 bytes off
  wrong_status_200_on_get,   // get: Range is ignored: 200 and the whole image

  // For Op::connect only; there also delay, stall (before the handshake), reset, garbage.
  // Every other action is taken as refuse.
  no_handshake,  // accept, never handshake or answer, not even after release_stalled()
  refuse,        // accept, close at once
};

/// One programmed fault. Requests are counted from when the fault was added, separately
/// for each fault; of several that are due for one request the first added one happens.
struct Fault {
  Op op = Op::any;
  std::uint64_t nth = 1;    // the nth matching request, from 1
  std::uint64_t times = 1;  // how many consecutive matching requests; 0: for ever
  Action action = Action::status;
  int status = 500;                                            // for Action::status
  std::string body{};                                          // for Action::status and raw_json
  std::vector<std::pair<std::string, std::string>> headers{};  // for Action::status
  std::chrono::milliseconds delay{0};                          // slept before any action
  bool early = false;                                          // for the actions that say so
  std::string ticket{};                 // only requests for this ticket; empty: for any
  std::chrono::seconds retry_after{1};  // for Action::server_busy
};

[[nodiscard]] std::string_view name_of(Op op);
[[nodiscard]] std::string_view name_of(Action action);

/// The inverse of name_of(); nothing when there is no such name.
[[nodiscard]] std::optional<Op> parse_op(std::string_view name);
[[nodiscard]] std::optional<Action> parse_action(std::string_view name);

}  // namespace upload::testserver
