// SPDX-License-Identifier: BSD-3-Clause
//
// A client that sends the bytes that a test gives it, for tests of the test server.

#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "catch.h"
#include "file_descriptor.h"

namespace upload::testserver {

/// A connection that sends and receives just what the test says, and closes when it ends.
class RawClient {
 public:
  explicit RawClient(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
            0);
  }

  void send(const std::string& text) {
    REQUIRE(::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(text.size()));
  }

  /// Everything up to `end`, or until the connection ends.
  std::string receive_until(const std::string& end) {
    std::string text;
    char byte = 0;
    while (!text.ends_with(end) && ::recv(fd_.get(), &byte, 1, 0) == 1) {
      text += byte;
    }
    return text;
  }

 private:
  FileDescriptor fd_;
};

}  // namespace upload::testserver
