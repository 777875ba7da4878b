// SPDX-License-Identifier: BSD-3-Clause
//
// Listening sockets, TCP and unix.
//
// SO_REUSEADDR lets a server that was stopped listen on the same port again while
// connections of its former life are still in TIME_WAIT; tests restart servers often.
// Addresses are numeric on purpose: nothing here asks a name server.
//
// Threads: no state. Errors: std::runtime_error that names the address. Sockets are
// close-on-exec and non-blocking, so that accepting never hangs on a client that went
// away between poll and accept.

#include "listen.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <system_error>

namespace upload::testserver {

namespace {

constexpr int kBacklog = 128;
constexpr int kSocketType = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

[[noreturn]] void fail(const std::string& address) {
  throw std::runtime_error("cannot listen on " + address + ": " +
                           std::generic_category().message(errno));
}

}  // namespace

FileDescriptor listen_tcp(const std::string& address, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  const std::string service = std::to_string(port);
  addrinfo* found = nullptr;
  if (const int err = getaddrinfo(address.c_str(), service.c_str(), &hints, &found)) {
    throw std::runtime_error("cannot listen on " + address + ": " + gai_strerror(err));
  }
  const std::unique_ptr<addrinfo, FreeAddresses> list(found);
  FileDescriptor fd(::socket(found->ai_family, kSocketType, 0));
  const int on = 1;
  if (!fd.valid() || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    fail(address + ":" + service);
  }
  return fd;
}

std::uint16_t port_of(const FileDescriptor& fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  char service[NI_MAXSERV] = "0";
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::getsockname(fd.get(), generic, &length) != 0 ||
      getnameinfo(generic, length, nullptr, 0, service, sizeof service, NI_NUMERICSERV) != 0) {
    throw std::runtime_error("a listening socket has no port");
  }
  return static_cast<std::uint16_t>(std::stoul(service));
}

FileDescriptor listen_unix(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const bool abstract = name.starts_with('@');
  // A path needs its terminating NUL, an abstract address is exactly as long as it is.
  const std::size_t size = name.size() + (abstract ? 0 : 1);
  if (name.size() < 2 || size > sizeof address.sun_path) {
    throw std::runtime_error("cannot listen on " + name + ": too long or too short");
  }
  std::memcpy(address.sun_path, name.c_str(), size);
  if (abstract) {
    address.sun_path[0] = '\0';
  } else {
    unlink_unix(name);
  }
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  FileDescriptor fd(::socket(AF_UNIX, kSocketType, 0));
  if (!fd.valid() || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    fail(name);
  }
  return fd;
}

void unlink_unix(const std::string& name) {
  struct stat status {};
  if (!name.empty() && name[0] != '@' && ::lstat(name.c_str(), &status) == 0 &&
      S_ISSOCK(status.st_mode)) {
    ::unlink(name.c_str());
  }
}

}  // namespace upload::testserver
