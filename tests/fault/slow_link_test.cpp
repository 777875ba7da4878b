// SPDX-License-Identifier: BSD-3-Clause
//
// Invariant 8 on a slow link: a request whose bytes still reach the server is
// waited for, however long they take; one whose bytes don't any more is given
// up after `timeout`. The buffer of a socket takes a whole request at once, so
// what has been handed to the kernel says neither.
//
// Taking SIOCOUTQ out of http/curl_connection.cpp turns the tests of links
// that move red.

#include "fixture/slow_link.h"

#include <memory>

#include "catch.h"
#include "fixture/nbdkit.h"
#include "fixture/temporary_directory.h"
#include "server.h"

using namespace upload::fixture;
using namespace upload::testserver;

namespace {

// A write that takes twice as long as `timeout`, and more than half of which
// fits into the buffers of a socket on loopback.
struct Load {
  uint64_t length;
  uint64_t bytes_per_second;
};
constexpr Load kTcp = {768 << 10, 192 << 10};
constexpr Load kUnix = {256 << 10, 56 << 10};

ServerOptions options(bool tls) {
  ServerOptions options;
  options.tls = tls;
  return options;
}

struct Fixture {
  explicit Fixture(bool tls, const std::string& unix_socket = {})
      : load(unix_socket.empty() ? kTcp : kUnix), server(options(tls)) {
    server.start();
    link = std::make_unique<SlowLink>(
        SlowLink::Options{server.port(), unix_socket, load.bytes_per_second});
    TicketOptions ticket;
    ticket.size_bytes = 16 << 20;
    server.add_ticket(ticket);
    const uint16_t port = unix_socket.empty() ? link->port() : server.port();
    keys = {std::string("url=") + (tls ? "https" : "http") +
                "://localhost:" + std::to_string(port) + "/images/ticket",
            "connections=1", "timeout=2"};
    if (tls) keys.push_back("cafile=" + server.ca_file());
    if (!unix_socket.empty()) keys.push_back("unix-socket=" + unix_socket);
  }

  Watchdog watchdog{"a test of a slow link"};
  const Load load;
  Server server;
  std::unique_ptr<SlowLink> link;
  std::vector<std::string> keys;
};

void check_write(Fixture& f) {
  Nbdkit nbdkit(f.keys);
  INFO(nbdkit.log());
  REQUIRE(nbdkit.serves());
  NbdClient client(nbdkit);
  const auto data = pattern(1, f.load.length);
  const int error = client.write(0, data.data(), data.size());
  INFO(nbdkit.log());
  CHECK(error == 0);
  CHECK(client.flush() == 0);
  CHECK((f.server.read_stable("ticket", 0, data.size()) == data));
}

void check_frozen(Fixture& f) {
  Nbdkit nbdkit(f.keys);
  INFO(nbdkit.log());
  REQUIRE(nbdkit.serves());
  NbdClient client(nbdkit);
  f.link->freeze_after(50'000);
  const auto data = pattern(1, f.load.length);
  CHECK(client.write(0, data.data(), data.size()) == EIO);
  INFO(nbdkit.log());
  CHECK(nbdkit.says("no progress for 2 seconds (timeout=)"));
}

}  // namespace

TEST_CASE("a slow link with TLS that moves is not given up", "[slow]") {
  Fixture f(true);
  check_write(f);
}

TEST_CASE("a slow link without TLS that moves is not given up", "[slow]") {
  Fixture f(false);
  check_write(f);
}

TEST_CASE("a slow unix socket that moves is not given up", "[slow]") {
  const TemporaryDirectory directory;
  Fixture f(false, directory.path() + "/link");
  check_write(f);
}

TEST_CASE("a link that does not move any more is given up", "[slow]") {
  Fixture f(true);
  check_frozen(f);
}

TEST_CASE("a unix socket that does not move any more is given up", "[slow]") {
  const TemporaryDirectory directory;
  Fixture f(false, directory.path() + "/link");
  check_frozen(f);
}
