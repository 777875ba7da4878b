// SPDX-License-Identifier: BSD-3-Clause
//
// Makes listening sockets. Errors: std::runtime_error with one line of text.

#pragma once

#include <cstdint>
#include <string>

#include "file_descriptor.h"

namespace upload::testserver {

/// A numeric IPv4 or IPv6 address; port 0: any free one.
[[nodiscard]] FileDescriptor listen_tcp(const std::string& address, std::uint16_t port);

/// The port of a socket made by listen_tcp().
[[nodiscard]] std::uint16_t port_of(const FileDescriptor& fd);

/// A path, which is removed first if it is a socket, or @NAME for an abstract address.
[[nodiscard]] FileDescriptor listen_unix(const std::string& name);

/// Removes the path, if it is one.
void unlink_unix(const std::string& name);

}  // namespace upload::testserver
