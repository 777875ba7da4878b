// SPDX-License-Identifier: BSD-3-Clause
//
// Discovery. The size comes from the Content-Range of a one-byte read: it is
// the size that the ticket allows, and costs the same for every image. Only
// if that does not tell it, the extents are added up, which a server may take
// a minute for.

#include "volume/discover.h"

#include <array>
#include <cinttypes>

#include "base/log.h"

namespace upload::volume {

namespace {

std::unique_ptr<http::Connection> connect(const http::Connector& connector,
                                          const http::Origin& origin, Duration timeout) {
  auto copy = std::make_shared<http::Origin>(origin);
  copy->timeout = timeout;
  return connector(std::move(copy), 0, {});
}

Result<target::Capabilities> ask_options(const target::Target& target,
                                         http::Connection& connection) {
  const Result<http::Reply> reply = connection.perform(target.options());
  if (!reply.ok()) return reply.status();
  return target.read_options(reply.value());
}

// What a read of the first byte says of the size of the whole.
std::optional<uint64_t> ask_size(const target::Target& target, http::Connection& connection) {
  std::array<std::byte, 1> byte;
  const ByteRange range{0, byte.size()};
  const Result<http::Reply> reply = connection.perform(target.read(range, byte.data()));
  const Status status =
      reply.ok() ? target.check_read(reply.value(), range) : reply.status();
  if (!status.ok()) {
    UPLOAD_DEBUG(http, "the server does not tell the size: %s", status.text().c_str());
    return std::nullopt;
  }
  return http::parse_content_range(reply.value().content_range)->total;
}

Result<uint64_t> add_up_extents(const target::Target& target, const http::Connector& connector,
                                const http::Origin& origin) {
  const auto connection = connect(connector, origin, origin.timeout);
  const Result<http::Reply> reply = connection->perform(target.extents());
  if (!reply.ok()) return reply.status();
  const auto extents = target.read_extents(reply.value());
  if (!extents.ok()) return extents.status();
  return extents.value().empty() ? 0 : extents.value().back().range.end();
}

Result<uint64_t> find_size(const target::Target& target, const http::Connector& connector,
                           const http::Origin& origin,
                           const target::Capabilities& capabilities,
                           http::Connection& connection, std::optional<uint64_t> size) {
  const std::optional<uint64_t> told = ask_size(target, connection);
  if (told && (*told == 0 || *told > static_cast<uint64_t>(INT64_MAX)))
    return Status(Kind::kMalformed,
                  format("the server says that the size is %" PRIu64, *told));
  if (size && told && *size != *told)
    return Status(Kind::kInvalid,
                  format("size=%" PRIu64 " is not the size of the disk at the server, "
                         "which is %" PRIu64,
                         *size, *told));
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

}  // namespace

Result<Discovery> discover(const target::Target& target, http::Origin origin,
                           const http::Connector& connector, bool auto_socket,
                           std::optional<uint64_t> size) {
  auto connection = connect(connector, origin, origin.connect_timeout);
  Result<target::Capabilities> capabilities = ask_options(target, *connection);
  if (!capabilities.ok()) return capabilities.status();

  const std::string socket = capabilities.value().unix_socket;
  if (auto_socket && !socket.empty()) {
    http::Origin local = origin;
    local.unix_socket = socket;
    auto local_connection = connect(connector, local, origin.connect_timeout);
    Result<target::Capabilities> again = ask_options(target, *local_connection);
    if (again.ok()) {
      origin = local;
      capabilities = std::move(again);
      connection = std::move(local_connection);
    } else {
      log::warning("the server's unix socket can't be used, using %s instead: %s",
                   origin.url.origin().c_str(), again.status().text().c_str());
    }
  }

  const Result<uint64_t> found =
      find_size(target, connector, origin, capabilities.value(), *connection, size);
  if (!found.ok()) return found.status();
  return Discovery{std::make_shared<http::Origin>(origin), capabilities.value(),
                   found.value()};
}

}  // namespace upload::volume
