// SPDX-License-Identifier: BSD-3-Clause
//
// Discovery: what can be known of a volume before the first request is
// served: whether the server can be reached and knows the ticket, what it
// offers, by which way it is reached best, whether a flush can be relied on, and the size
// of the disk.
//
// It runs once, before nbdkit forks, on connections of its own that are
// closed again; so a failure ends nbdkit before it serves anything.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "http/connection.h"
#include "http/origin.h"
#include "target/target.h"

namespace upload::volume {

struct Discovery {
  std::shared_ptr<const http::Origin> origin;  // with the way that was found
  target::Capabilities capabilities;
  uint64_t size = 0;  // bytes
};

// A disk that is not there is created, if the target was told so and has a step for it, and
// `size` is given. `auto_socket`: use the unix socket that the server tells of, if it can be
// connected. `size`: what the user says; must be the server's if that is known.
// `direct`: what the user says of whether our connections are the server's; if nothing,
// the server is asked, and without proof that they are, Capabilities::durability is
// kOnReply, and a warning says so.
// After it, and when nobody else may write to the disk: makes it ready to be written
// (Target::prepare). `fence`: of the claim; null: there is none.
[[nodiscard]] Status prepare(const target::Target& target, const Discovery& found,
                             const http::Connector& connector, const Fence* fence);

[[nodiscard]] Result<Discovery> discover(const target::Target& target, http::Origin origin,
                                         const http::Connector& connector, bool auto_socket,
                                         std::optional<uint64_t> size,
                                         std::optional<bool> direct);

}  // namespace upload::volume
