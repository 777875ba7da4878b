// SPDX-License-Identifier: BSD-3-Clause
//
// ask(): one request over a connection, and what its reply means. The only way in which the
// plugin makes a request: on leases by volume/exchange.*, on connections of its own by
// discovery. ask_extents(): a question that may take several.

#pragma once

#include <type_traits>

#include "base/status.h"
#include "http/message.h"
#include "target/target.h"

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

// The whole list of extents. `get` makes one request: it is given the request and what reads the
// reply to it, as ask() is.
template <typename Get>
Result<std::vector<Extent>> ask_extents(const Target& target, uint64_t size, Duration within,
                                        const Get& get) {
  const std::unique_ptr<ExtentsReader> reader = target.extents_reader(size);
  for (bool more = true; more;) {
    http::Request request = target.extents(*reader);
    request.within = within;
    const Status status = get(request, [&](const http::Reply& reply) -> Status {
      if (Status checked = target.check_extents(reply); !checked.ok()) return checked;
      const Result<bool> page = reader->finish_page(reply);
      more = page.ok() && page.value();
      return page.status();
    });
    if (!status.ok()) return status;
  }
  return reader->take_extents();
}

}  // namespace upload::target
