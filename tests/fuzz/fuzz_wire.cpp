// SPDX-License-Identifier: BSD-3-Clause
//
// What a connection makes of the bytes that come over its socket: replies that keep to
// their bounds, or failures. The input's first byte says what is asked for; what follows
// is sent after the first request and, from a byte 0xff on, after the second.

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>

#include "fuzz/check.h"
#include "http/curl_connection.h"
#include "target/target.h"

using namespace upload;
using upload::fuzz::check;

namespace {

constexpr size_t kSink = 1000;

// The server's end, on a socket of the abstract namespace.
class Peer {
 public:
  Peer() : name_("@fuzz-wire-" + std::to_string(getpid())) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path + 1, name_.data() + 1, name_.size() - 1);
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address),
             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size())) != 0 ||
        listen(listener_, 4) != 0)
      abort();
  }
  const std::string& name() const { return name_; }

  // One connection.
  void serve(std::string_view first, std::string_view second) const {
    const int fd = accept(listener_, nullptr, nullptr);
    if (read_request(fd) && send_all(fd, first) && !second.empty() && is_asked(fd) &&
        read_request(fd))
      send_all(fd, second);
    shutdown(fd, SHUT_WR);
    char buffer[4096];
    while (recv(fd, buffer, sizeof buffer, 0) > 0) {
    }
    close(fd);
  }

 private:
  // If the first reply is not whole, both sides would wait for each other.
  static bool is_asked(int fd) {
    pollfd poll_fd = {fd, POLLIN, 0};
    return poll(&poll_fd, 1, 10) == 1;
  }
  static bool read_request(int fd) {
    std::string request;
    char buffer[4096];
    while (request.find("\r\n\r\n") == request.npos) {
      const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
      if (n <= 0) return false;
      request.append(buffer, static_cast<size_t>(n));
    }
    return true;
  }
  static bool send_all(int fd, std::string_view bytes) {
    return send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }

  const std::string name_;
  int listener_ = -1;
};

void ask(const target::Target& target, http::Connection& connection, unsigned what) {
  std::byte sink[kSink] = {};
  const ByteRange range{0, kSink};
  const auto reader = target.extents_reader(uint64_t{1} << 40);
  http::Request request;
  switch (what % 5) {
    case 0: request = target.inquire(); break;
    case 1: request = target.read(range, sink); break;
    case 2: request = target.write(range, {{sink, kSink}}, false); break;
    case 3: request = target.flush(); break;
    default: request = target.extents(*reader); break;
  }
  const Result<http::Reply> reply = connection.perform(request);
  if (!reply.ok()) {
    check(!reply.status().text().empty() && connection.closed());
    return;
  }
  check(reply.value().status >= 100 && reply.value().status <= 999);
  check(reply.value().body.size() <= request.max_reply);
  check(reply.value().sunk <= request.sink.size());
  switch (what % 5) {
    case 0: (void)target.read_offer(reply.value()).ok(); break;
    case 1: {
      const bool good = target.check_read(reply.value(), range).ok();
      check(!good || (reply.value().status == 206 && reply.value().sunk == kSink));
      break;
    }
    case 2:
    case 3: {
      const bool good = target.check_change(reply.value()).ok();
      check(good == (reply.value().status == 200));
      break;
    }
    default:
      (void)(target.check_extents(reply.value()).ok() && reader->finish_page(reply.value()).ok());
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Peer peer;
  static const auto origin = [] {
    if (!http::global_init().ok()) abort();
    auto made = std::make_shared<http::Origin>();
    made->url = http::parse_url("http://host/images/ticket").value();
    made->unix_socket = peer.name();
    made->timeout = std::chrono::seconds(10);
    return made;
  }();
  static const auto target = target::make_target("imageio", origin->url);
  if (size < 1) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  const size_t end = std::min(bytes.find('\xff'), bytes.size());
  const std::string_view second = bytes.substr(std::min(end + 1, bytes.size()));
  std::thread thread([&] { peer.serve(bytes.substr(0, end), second); });
  {
    const auto connection =
        http::make_curl_connection(origin, std::make_shared<http::Addresses>(), 1, {});
    ask(*target, *connection, data[0]);
    if (!connection->closed()) ask(*target, *connection, data[0] / 5U);
    connection->abort();
  }
  thread.join();
  return 0;
}
