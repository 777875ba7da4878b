// SPDX-License-Identifier: BSD-3-Clause
//
// A reply that has been decided on, and the one who sends it.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"
#include "channel.h"
#include "fault_plan.h"
#include "http_syntax.h"

namespace upload::testserver {

/// A piece of an image as a reply's body; read while it is sent.
struct ImageData {
  Session* session;  // outlives the reply
  ByteRange range;
  std::uint64_t complete_bytes;  // the size of the image
  bool partial;                  // answers a Range: there is a Content-Range
};

struct Reply {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers{};
  std::string body{};
  std::optional<ImageData> data{};  // instead of body
  bool close = false;               // says `Connection: close`, and does
  bool chunked = false;             // in chunks instead of with a length
  bool body_follows = false;        // sent before the request's body was read, which is then read
                                    // and forgotten; the connection stays

  std::optional<CloseMode> drop{};  // send nothing, close so
  std::function<void()> after_close{};

  /// Sends nothing.
  static Reply dropped(CloseMode mode);
  static Reply refused(const Refusal& refusal);
  static Reply json(std::string body);
};

/// Sends replies, as truthfully as the fault (may be null) allows. Returns how the
/// connection is to be closed now, or nothing when it stays. The channel's owner only.
[[nodiscard]] std::optional<CloseMode> send_reply(Channel& channel, Reply reply,
                                                  const FiredFault& fault, bool head_only);

/// Bytes that are not HTTP.
void send_garbage(Channel& channel);

}  // namespace upload::testserver
