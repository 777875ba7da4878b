// SPDX-License-Identifier: BSD-3-Clause
//
// ask(): one request over a connection, and what its reply means. The only way in which the
// plugin makes a request: on leases by volume/exchange.*, on connections of its own by
// discovery.

#pragma once

#include <type_traits>

#include "base/status.h"
#include "http/message.h"

namespace upload::target {

// `connection` is an http::Connection or a Lease. `read` makes a Status or a Result of the
// reply; the failure to get one is returned as it is.
template <typename Connection, typename Read>
std::invoke_result_t<Read, const http::Reply&> ask(Connection& connection,
                                                   const http::Request& request,
                                                   const Read& read) {
  const Result<http::Reply> reply = connection.perform(request);
  if (!reply.ok()) return reply.status();
  return read(reply.value());
}

}  // namespace upload::target
