// SPDX-License-Identifier: BSD-3-Clause
//
// Opening and finding storage clients.
//
// A ticket that was replaced by another one of the same id keeps its storage client here until
// the connection ends: whoever still uses it sees the old image.
//
// Threads: the connection's. Errors: what the storage says, as one line.

#include "sessions.h"

#include <utility>

namespace upload::testserver {

Session* Sessions::find(const std::shared_ptr<Ticket>& ticket) const {
  const auto found = sessions_.find(ticket);
  return found == sessions_.end() ? nullptr : found->second.get();
}

Session* Sessions::open(const std::shared_ptr<Ticket>& ticket, std::string& error) {
  if (Session* const known = find(ticket)) {
    return known;
  }
  Channel& channel = channel_;
  auto session = ticket->backend().open(
      connection_, [&channel, heeds = heeds_peer_] { return heeds && channel.gone(); }, error);
  if (!session) {
    return nullptr;
  }
  if (ticket->options().inactivity_timeout.count() > 0) {
    idle_ = ticket->options().inactivity_timeout;
  }
  return (sessions_[ticket] = std::move(session)).get();
}

}  // namespace upload::testserver
