// SPDX-License-Identifier: BSD-3-Clause
//
// Discovery. The size comes from the Content-Range of a one-byte read: it is
// the size that the ticket allows, and costs the same for every image. Only
// if that does not tell it, the extents are added up, which a server may take
// a minute for.
//
// A server may tell of a unix socket, but it may also name somebody else's. So that one is
// first asked whether it offers itself, by a request without credentials and ticket.
//
// A flush covers what went over the same connection of the server. Through a reverse
// proxy one of our connections may be many of the server's, and a flush, although it is
// answered with success, may cover nothing. So the target is asked for a request whose
// reply tells (Target::probe_direct). Whatever is not proof counts against us: each
// change is then stable when it is acknowledged, which is right over any connection.

#include "volume/discover.h"

#include <array>
#include <cinttypes>

#include "base/format.h"
#include "base/log.h"
#include "base/printable.h"
#include "base/redact.h"
#include "target/ask.h"

namespace upload::volume {

namespace {

std::unique_ptr<http::Connection> connect(const http::Connector& connector,
                                          const http::Origin& origin, Duration timeout) {
  auto copy = std::make_shared<http::Origin>(origin);
  copy->timeout = timeout;
  return connector(std::move(copy), 0, {});
}

Result<target::Capabilities> ask_offer(const target::Target& target,
                                       http::Connection& connection) {
  return target::ask(connection, target.inquire(),
                     [&](const http::Reply& reply) { return target.read_offer(reply); });
}

// Creates the disk that is missing.
Result<target::Capabilities> create_disk(const target::Target& target,
                                         const http::Connector& connector,
                                         const http::Origin& origin,
                                         std::unique_ptr<http::Connection>& connection,
                                         const target::Capabilities& offered,
                                         std::optional<uint64_t> size) {
  // Some servers close after a reply.
  const auto connect_again = [&] {
    if (connection->closed()) connection = connect(connector, origin, origin.connect_timeout);
  };
  if (!size)
    return Status(Kind::kInvalid, "create=true needs size=: there is no such disk at the server");
  const std::optional<http::Request> request = target.create(*size);
  if (!request) return offered;  // when it is made ready
  connect_again();
  const Status status = target::ask(*connection, *request, [&](const http::Reply& reply) {
    return target.check_create(reply).while_doing("the disk could not be created");
  });
  if (!status.ok()) return status;
  connect_again();
  return ask_offer(target, *connection);
}

// Is the server that answers at this socket the one that has named it?
Status check_socket(const target::Target& target, const http::Connector& connector,
                    const http::Origin& origin, const std::string& name) {
  // What may not be printed is not used either: every error of the connection names it.
  if ((name[0] != '/' && name[0] != '@') || printable(name) != name || has_secret(name))
    return {Kind::kInvalid, "'" + excerpt(name) +
                                "' is no name of one that is used: it must be "
                                "an absolute path or @NAME"};
  http::Origin nobody;
  nobody.url = origin.url;
  nobody.unix_socket = name;
  nobody.connect_timeout = origin.connect_timeout;
  const std::optional<http::Request> question = target.inquire_without_ticket();
  if (!question) return {Kind::kInvalid, "the protocol has no unix sockets"};
  const auto connection = connect(connector, nobody, origin.connect_timeout);
  return target::ask(*connection, *question, [&](const http::Reply& reply) {
    return target.check_offers_socket(reply, name)
        .while_doing("unix socket " + name + " is not the server's");
  });
}

// Goes over to the unix socket that the server tells of. Leaves all as it is if it fails.
Status go_local(const target::Target& target, const http::Connector& connector,
                http::Origin& origin, target::Capabilities& capabilities,
                std::unique_ptr<http::Connection>& connection) {
  const std::string& name = capabilities.unix_socket;
  if (Status status = check_socket(target, connector, origin, name); !status.ok()) return status;
  http::Origin local = origin;
  local.unix_socket = name;
  auto local_connection = connect(connector, local, origin.connect_timeout);
  Result<target::Capabilities> offered = ask_offer(target, *local_connection);
  if (!offered.ok()) return offered.status();
  origin = std::move(local);
  capabilities = std::move(offered.value());
  connection = std::move(local_connection);
  return {};
}

// What a read of the first byte says of the size of the whole.
std::optional<uint64_t> ask_size(const target::Target& target, http::Connection& connection) {
  std::array<std::byte, 1> byte;
  const ByteRange range{0, byte.size()};
  std::optional<uint64_t> size;
  const Status status =
      target::ask(connection, target.read(range, byte.data()), [&](const http::Reply& reply) {
        Status checked = target.check_read(reply, range);
        if (checked.ok())
          size = http::parse_content_range(reply.headers.get("Content-Range"))->total;
        return checked;
      });
  if (!status.ok())
    UPLOAD_DEBUG(http, "the server does not tell the size: %s", status.text().c_str());
  return size;
}

Result<uint64_t> add_up_extents(const target::Target& target, const http::Connector& connector,
                                const http::Origin& origin) {
  const auto connection = connect(connector, origin, origin.timeout);
  const auto extents = target::ask_extents(target, static_cast<uint64_t>(INT64_MAX),
                                           target::kLongestList * origin.timeout,
                                           [&](const http::Request& request, const auto& read) {
                                             return target::ask(*connection, request, read);
                                           });
  if (!extents.ok()) return extents.status();
  return extents.value().empty() ? 0 : extents.value().back().range.end();
}

Result<uint64_t> find_size(const target::Target& target, const http::Connector& connector,
                           const http::Origin& origin, const target::Capabilities& capabilities,
                           http::Connection& connection, std::optional<uint64_t> size) {
  const std::optional<uint64_t> told = capabilities.missing ? size
                                       : capabilities.size  ? capabilities.size
                                                            : ask_size(target, connection);
  if (told && (*told == 0 || *told > static_cast<uint64_t>(INT64_MAX)))
    return Status(Kind::kMalformed, format("the server says that the size is %" PRIu64, *told));
  if (size && told && *size != *told)
    return Status(Kind::kInvalid,
                  format("size=%" PRIu64 " is not the size of the disk at the server, "
                         "which is %" PRIu64,
                         *size, *told));
  if (told && *told % capabilities.traits.alignment != 0)
    return Status(Kind::kInvalid, format("the size of the disk, %" PRIu64
                                         ", is not a multiple of %u, as the server needs it",
                                         *told, capabilities.traits.alignment));
  if (size) return *size;
  if (told) return *told;
  if (!capabilities.can_extents)
    return Status(Kind::kInvalid, "size= is needed: the server does not tell the size");
  const Result<uint64_t> sum = add_up_extents(target, connector, origin);
  if (!sum.ok())
    return sum.status().while_doing("size= is needed: the server does not tell the size");
  if (sum.value() == 0 || sum.value() > static_cast<uint64_t>(INT64_MAX))
    return Status(Kind::kInvalid, "size= is needed: the server tells of no extents");
  return sum.value();
}

// Whether a connection of ours is one of the server's; a failure: nobody knows.
// `kept_open`: the connection was open after an ordinary reply.
Result<bool> ask_direct(const target::Target& target, const http::Connector& connector,
                        const http::Origin& origin, bool kept_open) {
  // Then a close after the probe means nothing.
  if (!kept_open) return Status(Kind::kLost, "the connection closes after every reply");
  const std::optional<http::Request> probe = target.probe_direct();
  if (!probe) return Status(Kind::kInvalid, "the protocol has no way to ask");
  const auto connection = connect(connector, origin, origin.connect_timeout);
  return target::ask(*connection, *probe,
                     [&](const http::Reply& reply) { return target.read_direct(reply); });
}

target::Durability find_durability(const target::Target& target, const http::Connector& connector,
                                   const http::Origin& origin,
                                   const target::Capabilities& capabilities,
                                   std::optional<bool> direct, bool kept_open) {
  using target::Durability;
  if (capabilities.traits.durability != Durability::kOnFlush || !capabilities.can_write)
    return capabilities.traits.durability;
  if (direct) return *direct ? Durability::kOnFlush : Durability::kOnReply;
  const Result<bool> asked = ask_direct(target, connector, origin, kept_open);
  if (asked.ok() && asked.value()) return Durability::kOnFlush;
  const std::string why =
      asked.ok() ? "there is a reverse proxy in front of the server, as the connection stays "
                   "open after a POST"
                 : "it is not known whether there is a reverse proxy in front of the server (" +
                       asked.status().text() + ")";
  log::warning(
      "%s: %s: every write and zero is flushed on its own, which is safe but slower; "
      "direct=true or direct=false says what is so",
      origin.url.redacted().c_str(), why.c_str());
  return Durability::kOnReply;
}

}  // namespace

Result<Discovery> discover(const target::Target& target, http::Origin origin,
                           const http::Connector& connector, bool auto_socket,
                           std::optional<uint64_t> size, std::optional<bool> direct) {
  auto connection = connect(connector, origin, origin.connect_timeout);
  Result<target::Capabilities> capabilities = ask_offer(target, *connection);
  if (capabilities.ok() && capabilities.value().missing)
    capabilities = create_disk(target, connector, origin, connection, capabilities.value(), size);
  if (!capabilities.ok()) return capabilities.status();

  if (auto_socket && !capabilities.value().unix_socket.empty()) {
    const Status status = go_local(target, connector, origin, capabilities.value(), connection);
    if (!status.ok())
      log::warning("the server's unix socket can't be used, using %s instead: %s",
                   origin.url.origin().c_str(), status.text().c_str());
  }

  const bool kept_open = !connection->closed();
  const Result<uint64_t> found =
      find_size(target, connector, origin, capabilities.value(), *connection, size);
  if (!found.ok()) return found.status();
  connection.reset();  // the server may allow only one
  capabilities.value().traits.durability =
      find_durability(target, connector, origin, capabilities.value(), direct, kept_open);
  if (capabilities.value().traits.durability == target::Durability::kUnknown)
    log::warning(
        "%s: this server tells nobody when data are on its disk; a flush means that it has "
        "answered all that was written before",
        origin.url.redacted().c_str());
  return Discovery{std::make_shared<http::Origin>(origin), capabilities.value(), found.value()};
}

Status prepare(const target::Target& target, const Discovery& found,
               const http::Connector& connector, const Fence* fence) {
  if (!found.capabilities.can_write) return {};
  const auto preparation = target.prepare(found.capabilities, found.size);
  if (!preparation) return {};
  auto connection = connect(connector, *found.origin, found.origin->timeout);
  Status status;
  while (std::optional<http::Request> request = preparation->next()) {
    request->fence = fence;
    // Some servers close after a reply.
    if (connection->closed())
      connection = connect(connector, *found.origin, found.origin->timeout);
    status = target::ask(*connection, *request,
                         [&](const http::Reply& reply) { return preparation->read(reply); });
    if (!status.ok()) break;
  }
  if (std::optional<http::Request> request = preparation->clean_up()) {
    request->fence = fence;
    connection = connect(connector, *found.origin, found.origin->timeout);
    (void)connection->perform(*request).ok();
  }
  return status;
}

}  // namespace upload::volume
