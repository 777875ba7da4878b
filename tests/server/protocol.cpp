// SPDX-License-Identifier: BSD-3-Clause
//
// The choice of a protocol, and what protocols have in common.
//
// Threads: no state. A late change opens a storage client that is nobody's, which is flushed and
// closed at once, so that it owns nothing.

#include "protocol.h"

#include "azure_api.h"
#include "image_api.h"
#include "webdav_api.h"

namespace upload::testserver {

Protocol::LateChange Protocol::late_change(const Exchange& exchange) const {
  return [ticket = exchange.ticket, range = exchange.range,
          is_put = exchange.op == Op::put](std::span<const char> data) {
    std::string error;
    const auto session = ticket->backend().open(
        0, [] { return false; }, error);
    return session && !(is_put ? session->write(range.offset, data) : session->zero(range)) &&
           !session->flush();
  };
}

std::unique_ptr<Protocol> make_protocol(ServerState& state, Sessions& sessions) {
  switch (state.options.protocol) {
    case ProtocolKind::azure: return std::make_unique<AzureApi>(state, sessions);
    case ProtocolKind::webdav: return std::make_unique<WebdavApi>(state, sessions);
    case ProtocolKind::imageio: break;
  }
  return std::make_unique<ImageApi>(state, sessions);
}

std::string path_of(const ServerOptions& options, const std::string& ticket_id) {
  switch (options.protocol) {
    case ProtocolKind::azure:
      return "/" + options.azure.account + "/" + options.azure.container + "/" + ticket_id;
    case ProtocolKind::webdav: return "/dav/" + ticket_id;
    case ProtocolKind::imageio: break;
  }
  return "/images/" + ticket_id;
}

Refusal storage_error(const std::string& what) { return {500, "Storage failed: " + what}; }

}  // namespace upload::testserver
