// SPDX-License-Identifier: BSD-3-Clause
//
// The plugin in a real nbdkit, a real NBD client, TLS, and a server with the
// durability model: what is expected of the data is expected of the stable
// image.

#include <libnbd.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <future>
#include <mutex>
#include <optional>
#include <span>
#include <thread>

#include "catch.h"
#include "certificates.h"
#include "fixture/model.h"
#include "fixture/nbdkit.h"
#include "server.h"

using namespace std::chrono_literals;
using namespace upload::fixture;
using namespace upload::testserver;

namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kSize = 64 * kMiB;

struct Fixture {
  explicit Fixture(ServerOptions options = {}, TicketOptions ticket = {})
      : server(std::move(options)) {
    ticket.size_bytes = ticket.size_bytes == 0 ? kSize : ticket.size_bytes;
    server.start();
    server.add_ticket(ticket);
  }
  // The plugin's parameters, with `more` after them.
  std::vector<std::string> keys(std::vector<std::string> more = {}) const {
    std::vector<std::string> all = {"url=" + server.url("ticket")};
    if (!server.ca_file().empty()) all.push_back("cafile=" + server.ca_file());
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::vector<char> stable(uint64_t offset, size_t length) const {
    return server.read_stable("ticket", offset, length);
  }

  Watchdog watchdog{"an e2e test"};
  Server server;
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// How an nbdkit that should not have started has ended.
void require_failed_with(const Nbdkit& nbdkit, const std::string& part) {
  INFO(nbdkit.log());
  REQUIRE_FALSE(nbdkit.serves());
  CHECK(WIFEXITED(nbdkit.wait_status()));
  CHECK(WEXITSTATUS(nbdkit.wait_status()) == 1);
  CHECK(has(nbdkit.log(), part));
}

}  // namespace

TEST_CASE("what is written, zeroed and flushed is stable and reads back", "[e2e]") {
  Fixture f;
  Nbdkit nbdkit(f.keys());
  REQUIRE(nbdkit.serves());
  NbdClient client(nbdkit);
  const auto data = pattern(1, 256 << 10);
  REQUIRE(client.write(4096, data.data(), data.size()) == 0);
  REQUIRE(client.write(kSize - 1, data.data(), 1) == 0);
  REQUIRE(client.zero(8192, 4096) == 0);
  CHECK(f.stable(4096, data.size()) != data);
  REQUIRE(client.flush() == 0);
  auto expected = data;
  std::fill_n(expected.begin() + 4096, 4096, 0);
  CHECK(f.stable(4096, data.size()) == expected);
  CHECK(f.stable(kSize - 1, 1)[0] == data[0]);
  std::vector<char> back(data.size());
  REQUIRE(client.read(4096, back.data(), back.size()) == 0);
  CHECK(back == expected);
  CHECK(f.server.unflushed_bytes("ticket") == 0);
}

TEST_CASE("a FUA write or zero is stable when it returns, without a flush", "[e2e]") {
  Fixture f;
  Nbdkit nbdkit(f.keys());
  NbdClient client(nbdkit);
  const auto data = pattern(2, 65536);
  REQUIRE(client.write(0, data.data(), data.size(), true) == 0);
  CHECK(f.stable(0, data.size()) == data);
  REQUIRE(client.zero(0, 4096, true) == 0);
  CHECK(f.stable(0, 4096) == std::vector<char>(4096));
  CHECK(f.server.counters().requests_of(Op::flush) == 0);
}

TEST_CASE("the export says what it can", "[e2e]") {
  Fixture f;
  Nbdkit nbdkit(f.keys());
  NbdClient client(nbdkit);
  nbd_handle* h = client.handle();
  CHECK(nbd_get_size(h) == static_cast<int64_t>(kSize));
  CHECK(nbd_is_read_only(h) == 0);
  CHECK(nbd_can_flush(h) == 1);
  CHECK(nbd_can_fua(h) == 1);
  CHECK(nbd_can_zero(h) == 1);
  CHECK(nbd_can_fast_zero(h) == 0);
  CHECK(nbd_can_trim(h) == 0);
  CHECK(nbd_can_multi_conn(h) == 1);
  CHECK(nbd_is_rotational(h) == 0);
  CHECK(nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM) == 1);
  CHECK(nbd_get_block_size(h, LIBNBD_SIZE_PREFERRED) == 65536);
  CHECK(nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM) == 32 << 20);
}

TEST_CASE("extents are the server's, until something is written", "[e2e]") {
  Fixture f;
  const auto data = pattern(3, 128 << 10);
  f.server.fill("ticket", kMiB, data);
  Nbdkit nbdkit(f.keys());
  NbdClient client(nbdkit);
  std::vector<std::pair<uint64_t, uint32_t>> extents;
  REQUIRE(client.extents(0, kSize, extents) == 0);
  REQUIRE(extents.size() >= 3);
  CHECK(extents[0].first == kMiB);
  CHECK((extents[0].second & LIBNBD_STATE_ZERO) != 0);
  CHECK(extents[1].first == data.size());
  CHECK(extents[1].second == 0);
  REQUIRE(client.extents(kMiB + 4096, kMiB, extents) == 0);
  CHECK(extents[0].first == data.size() - 4096);
  CHECK(f.server.counters().requests_of(Op::extents) == 1);
  REQUIRE(client.write(0, data.data(), 65536) == 0);
  REQUIRE(client.extents(0, kSize, extents) == 0);
  CHECK(extents[0].first == 65536);
  CHECK(extents[0].second == 0);
  CHECK(f.server.counters().requests_of(Op::extents) == 2);
}

TEST_CASE("requests beyond the end never reach the server", "[e2e]") {
  Fixture f;
  Nbdkit nbdkit(f.keys());
  NbdClient client(nbdkit, false);
  const auto before = f.server.counters().total_requests();
  char buffer[4096] = {};
  CHECK(client.write(kSize - 1, buffer, 2) != 0);
  CHECK(client.write(kSize, buffer, 1) != 0);
  CHECK(client.zero(kSize - 4096, 8192) != 0);
  CHECK(client.read(kSize, buffer, 1) != 0);
  CHECK(client.write(UINT64_MAX - 4095, buffer, 4096) != 0);
  CHECK(f.server.counters().total_requests() == before);
}

TEST_CASE("no more connections than the server's limits allow", "[e2e]") {
  TicketOptions ticket;
  ticket.max_writers = 2;
  Fixture f({}, ticket);
  Nbdkit nbdkit(f.keys({"connections=8"}));
  NbdClient client(nbdkit);
  const auto data = pattern(4, 4096);
  std::vector<NbdClient::Write> writes;
  for (uint64_t i = 0; i < 500; ++i) writes.push_back({i * 65536, data.data(), data.size()});
  for (const int result : client.write_all(writes)) REQUIRE(result == 0);
  REQUIRE(client.flush() == 0);
  CHECK(f.server.counters().max_connections_open <= 2);
  CHECK(f.server.counters().max_active_requests <= 2);
}

TEST_CASE("servers from before OPTIONS, and such without zero or flush, are served", "[e2e]") {
  TicketOptions ticket;
  SECTION("405") { ticket.options_mode = OptionsMode::method_not_allowed; }
  SECTION("204") { ticket.options_mode = OptionsMode::no_content; }
  SECTION("no features") { ticket.features = {}; }
  Fixture f({}, ticket);
  Nbdkit nbdkit(f.keys());
  INFO(nbdkit.log());
  REQUIRE(nbdkit.serves());
  NbdClient client(nbdkit);
  CHECK(nbd_can_flush(client.handle()) == 1);
  CHECK(nbd_can_fua(client.handle()) == 1);
  const auto data = pattern(5, kMiB);
  REQUIRE(client.write(kMiB, data.data(), data.size()) == 0);
  CHECK(client.flush() == 0);
  CHECK(f.stable(kMiB, data.size()) == data);  // such servers flush every write
  REQUIRE(client.zero(kMiB, 65536) == 0);
  CHECK(f.stable(kMiB, 65536) == std::vector<char>(65536));
  CHECK(f.server.counters().requests_of(Op::zero) == 0);
  CHECK(f.server.counters().requests_of(Op::flush) == 0);
  CHECK(f.server.counters().requests_of(Op::other) == 0);  // nothing to find out
  CHECK(f.server.counters().max_connections_open == 1);
}

TEST_CASE("where the way to the server is not known to be direct every change is stable",
          "[e2e]") {
  Fixture f;
  // As through a reverse proxy, which keeps the connection.
  Fault fault{.op = Op::other, .status = 405};
  std::string text = "there is a reverse proxy in front of the server";
  SECTION("kept open") {}
  SECTION("a success") {
    fault.action = Action::raw_json;
    fault.body = "{}";
    text = "it is not known whether there is a reverse proxy";
  }
  SECTION("no reply") {
    fault.action = Action::close_before_body;
    text = "it is not known whether there is a reverse proxy";
  }
  f.server.add_fault(fault);
  Nbdkit nbdkit(f.keys());
  INFO(nbdkit.log());
  REQUIRE(nbdkit.serves());
  CHECK(has(nbdkit.log(), text));
  CHECK(has(nbdkit.log(), "direct=true or direct=false"));
  NbdClient client(nbdkit);
  CHECK(nbd_can_flush(client.handle()) == 1);
  CHECK(nbd_can_fua(client.handle()) == 1);
  const auto data = pattern(5, kMiB);
  REQUIRE(client.write(kMiB, data.data(), data.size()) == 0);
  CHECK(f.stable(kMiB, data.size()) == data);
  REQUIRE(client.zero(kMiB, 65536) == 0);
  CHECK(f.stable(kMiB, 65536) == std::vector<char>(65536));
  CHECK(client.flush() == 0);
  CHECK(f.server.counters().requests_of(Op::zero) == 1);
  CHECK(f.server.counters().requests_of(Op::flush) == 0);
  CHECK(f.server.counters().requests_of(Op::other) == 1);
}

TEST_CASE("a direct way is found with one question that touches nothing", "[e2e]") {
  ServerOptions options;
  SECTION("TLS") {}
  SECTION("http") { options.tls = false; }
  Fixture f(options);
  const auto data = pattern(5, 65536);
  f.server.fill("ticket", 0, data);
  Nbdkit nbdkit(f.keys());
  INFO(nbdkit.log());
  REQUIRE(nbdkit.serves());
  CHECK_FALSE(has(nbdkit.log(), "direct="));
  CHECK(f.server.counters().requests_of(Op::other) == 1);
  CHECK(f.stable(0, data.size()) == data);
  NbdClient client(nbdkit);
  REQUIRE(client.write(0, "x", 1) == 0);
  CHECK(f.stable(0, 1)[0] == data[0]);
  REQUIRE(client.flush() == 0);
  CHECK(f.stable(0, 1)[0] == 'x');

  Nbdkit told(f.keys({"direct=true"}));
  REQUIRE(told.serves());
  CHECK(f.server.counters().requests_of(Op::other) == 1);
}

TEST_CASE("a zero without the server's help is written out whole", "[e2e]") {
  TicketOptions ticket;
  ticket.features = {"extents", "flush"};
  ticket.size_bytes = 200 * kMiB;
  Fixture f({}, ticket);
  const auto data = pattern(6, 65536);
  for (uint64_t offset = 0; offset < 200 * kMiB; offset += 10 * kMiB)
    f.server.fill("ticket", offset, data);
  Nbdkit nbdkit(f.keys());
  NbdClient client(nbdkit);
  REQUIRE(client.zero(0, 150 * kMiB) == 0);
  REQUIRE(client.flush() == 0);
  for (uint64_t offset = 0; offset < 200 * kMiB; offset += 10 * kMiB) {
    INFO(offset);
    CHECK(f.stable(offset, 65536) == (offset < 150 * kMiB ? std::vector<char>(65536) : data));
  }
}

TEST_CASE("a local server is reached by its unix socket", "[e2e]") {
  TemporaryDirectory directory;
  ServerOptions options;
  std::string told;
  SECTION("a path") { told = directory.path() + "/imageio"; }
  SECTION("an abstract one") { told = "@upload-test-" + std::to_string(getpid()); }
  options.unix_socket = told;
  Fixture f(options);
  Nbdkit nbdkit(f.keys({"is_ovirt_host=true"}));
  INFO(nbdkit.log());
  REQUIRE(nbdkit.serves());
  const auto handshakes = f.server.counters().tls_handshakes;
  NbdClient client(nbdkit);
  const auto data = pattern(7, 65536);
  REQUIRE(client.write(0, data.data(), data.size()) == 0);
  CHECK_FALSE(has(nbdkit.log(), "direct="));
  CHECK(f.stable(0, data.size()) != data);
  REQUIRE(client.flush() == 0);
  CHECK(f.stable(0, data.size()) == data);
  CHECK(f.server.counters().tls_handshakes == handshakes);

  Nbdkit direct(f.keys({"unix-socket=" + told}));
  INFO(direct.log());
  REQUIRE(direct.serves());
  CHECK(f.server.counters().tls_handshakes == handshakes);
}

TEST_CASE("a unix socket that can't be connected is no obstacle", "[e2e]") {
  ServerOptions options;
  options.advertised_unix_socket = "/nonexistent/socket";
  Fixture f(options);
  Nbdkit nbdkit(f.keys({"is_ovirt_host=true"}));
  INFO(nbdkit.log());
  REQUIRE(nbdkit.serves());
  CHECK(has(nbdkit.log(), "/nonexistent/socket"));
  NbdClient client(nbdkit);
  CHECK(client.write(0, "x", 1) == 0);
  CHECK(client.flush() == 0);

  // One that was asked for by name is not replaced by something else.
  require_failed_with(Nbdkit(f.keys({"unix-socket=/nonexistent/socket"})), "/nonexistent/socket");
}

TEST_CASE("a proxy is asked for a tunnel, for http too", "[e2e]") {
  // One that forwarded requests could use another connection for each.
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  REQUIRE(bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0);
  REQUIRE(listen(listener, 1) == 0);
  REQUIRE(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  std::string asked;
  std::thread proxy([&] {
    const int fd = accept(listener, nullptr, nullptr);
    char buffer[1024];
    const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    asked.assign(buffer, n > 0 ? static_cast<size_t>(n) : 0);
    const char reply[] = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    send(fd, reply, sizeof reply - 1, MSG_NOSIGNAL);
    close(fd);
  });
  Watchdog watchdog("a proxy");
  const std::string port = std::to_string(ntohs(address.sin_port));
  Nbdkit nbdkit(
      {"url=http://upload.example/images/x", "proxy=http://me:hunter2@127.0.0.1:" + port});
  proxy.join();
  close(listener);
  CHECK(asked.find("CONNECT upload.example:80 HTTP/1.1") == 0);
  require_failed_with(nbdkit, "403");
  CHECK_FALSE(has(nbdkit.log(), "hunter2"));
}

TEST_CASE("a ticket for reading only makes a read-only export", "[e2e]") {
  TicketOptions ticket;
  ticket.writable = false;
  Fixture f({}, ticket);
  Nbdkit nbdkit(f.keys());
  INFO(nbdkit.log());
  REQUIRE(nbdkit.serves());
  NbdClient client(nbdkit);
  CHECK(nbd_is_read_only(client.handle()) == 1);
  char byte = 1;
  CHECK(client.read(0, &byte, 1) == 0);
}

TEST_CASE("idle connections are kept alive beyond the server's idle time-out", "[e2e]") {
  ServerOptions options;
  options.idle_close = 2000ms;
  Fixture f(options);
  Nbdkit nbdkit(f.keys({"idle-timeout=0.4", "connections=1"}));
  NbdClient client(nbdkit);
  const auto data = pattern(8, 4096);
  REQUIRE(client.write(0, data.data(), data.size()) == 0);
  const auto opened = f.server.counters().connections_accepted;
  // Longer idle than the server would bear.
  REQUIRE(
      f.server.wait_until([](const Counters& c) { return c.requests_of(Op::flush) >= 12; }, 60s));
  CHECK(f.stable(0, data.size()) == data);
  REQUIRE(client.write(4096, data.data(), data.size()) == 0);
  REQUIRE(client.flush() == 0);
  CHECK(f.server.counters().connections_accepted == opened);
}

// ovirt-imageio keeps its tickets in memory: after a restart it denies all until somebody
// adds them again.
TEST_CASE("nbdcopy does not notice that the server has forgotten the ticket for a while",
          "[e2e]") {
  const TemporaryDirectory directory;
  const std::string source = directory.path() + "/source";
  const auto data = pattern(6, kSize);
  std::ofstream(source, std::ios::binary).write(data.data(), kSize);
  std::vector<std::string> more = {"replay=32M", "denied-wait=60", "retry-time=100"};
  SECTION("with replay") {}
  SECTION("with a spool") { more.push_back("spool=" + directory.path()); }
  Fixture f;
  f.server.set_request_delay(5ms);
  Nbdkit nbdkit(f.keys(more));
  REQUIRE(nbdkit.serves());
  auto copy = std::async(std::launch::async, [&] {
    const std::string command =
        "nbdcopy --flush " + source + " 'nbd+unix:///?socket=" + nbdkit.socket() + "'";
    return std::system(command.c_str());
  });
  REQUIRE(f.server.wait_until(
      [](const Counters& seen) { return seen.requests_of(Op::put) >= 20; }, 60s));
  f.server.stop();
  f.server.remove_ticket("ticket");
  const uint64_t before = f.server.counters().error_replies;
  f.server.start();
  REQUIRE(f.server.wait_until(
      [=](const Counters& seen) { return seen.error_replies >= before + 5; }, 60s));
  f.server.renew_ticket("ticket");
  CHECK(copy.get() == 0);
  INFO(nbdkit.log());
  CHECK(f.server.stable_equals("ticket", source));
  nbdkit.stop();
  CHECK(has(nbdkit.log(), "nothing is lost"));
}

TEST_CASE("certificates are checked", "[e2e]") {
  TemporaryDirectory directory;
  const CertificateFiles files = write_certificates(directory.path());
  ServerOptions options;
  options.cert_file = files.cert;
  options.key_file = files.key;
  options.ca_file = files.ca;

  SECTION("one of another CA is refused") {
    Fixture f(options);
    require_failed_with(Nbdkit({"url=" + f.server.url("ticket"), "cafile=" + files.other_ca}),
                        "could not connect");
    require_failed_with(Nbdkit({"url=" + f.server.url("ticket")}), "certificate");
    CHECK(f.server.counters().total_requests() == 0);
  }
  SECTION("an expired one is refused, but not with insecure=true") {
    options.cert_file = files.expired_cert;
    options.key_file = files.expired_key;
    Fixture f(options);
    require_failed_with(Nbdkit(f.keys()), "expired");
    Nbdkit insecure(f.keys({"insecure=true"}));
    INFO(insecure.log());
    CHECK(insecure.serves());
    CHECK(has(insecure.log(), "warning: insecure=true"));
  }
  SECTION("one for another host is refused") {
    options.cert_file = files.other_host_cert;
    options.key_file = files.other_host_key;
    Fixture f(options);
    require_failed_with(Nbdkit(f.keys()), "could not connect");
    CHECK(f.server.counters().total_requests() == 0);
  }
  SECTION("a client certificate is shown") {
    options.client_ca_file = files.ca;
    Fixture f(options);
    CHECK_FALSE(Nbdkit(f.keys()).serves());
    Nbdkit nbdkit(f.keys({"cert=" + files.client_cert, "key=" + files.client_key}));
    INFO(nbdkit.log());
    REQUIRE(nbdkit.serves());
    NbdClient client(nbdkit);
    CHECK(client.write(0, "x", 1) == 0);
    CHECK(client.flush() == 0);
  }
}

TEST_CASE("credentials reach the server and nothing else", "[e2e]") {
  TemporaryDirectory directory;
  const std::string file = directory.path() + "/secret";
  std::ofstream(file) << "s3cret-password\n";
  ServerOptions options;
  std::vector<std::string> keys;
  SECTION("Basic") {
    options.require_authorization = "Basic YWRtaW46czNjcmV0LXBhc3N3b3Jk";
    keys = {"user=admin", "password=+" + file};
  }
  SECTION("Bearer") {
    options.require_authorization = "Bearer s3cret-password";
    keys = {"token=+" + file};
  }
  SECTION("header") {
    options.require_authorization = "Custom s3cret-password";
    keys = {"header=Authorization: Custom s3cret-password"};
  }
  SECTION("the URL from a file") {
    options.require_authorization = "Bearer s3cret-password";
    keys = {"token=s3cret-password"};
  }
  Fixture f(options);
  require_failed_with(Nbdkit(f.keys({"-v"})), "");
  require_failed_with(Nbdkit(f.keys()), "401");
  Nbdkit nbdkit(f.keys(keys), {"-D", "upload.http=1", "-D", "upload.pool=1"});
  INFO(nbdkit.log());
  REQUIRE(nbdkit.serves());
  {
    NbdClient client(nbdkit);
    CHECK(client.write(0, "x", 1) == 0);
    CHECK(client.flush() == 0);
  }
  nbdkit.stop();
  CHECK_FALSE(has(nbdkit.log(), "s3cret"));
}

TEST_CASE("the ticket is in no log, not even when the server echoes it", "[e2e]") {
  TicketOptions ticket;
  ticket.id = "0f1e2d3c-4b5a-6978";
  Fixture f({}, ticket);
  TemporaryDirectory directory;
  const std::string file = directory.path() + "/url";
  std::ofstream(file) << f.server.url(ticket.id) << "\n";
  Nbdkit nbdkit({"url=+" + file, "cafile=" + f.server.ca_file()},
                {"-v", "-D", "upload.http=1", "-D", "upload.pool=1", "-D", "upload.queue=1", "-D",
                 "upload.keeper=1", "-D", "upload.stats=1"});
  INFO(nbdkit.log());
  REQUIRE(nbdkit.serves());
  {
    NbdClient client(nbdkit);
    REQUIRE(client.write(0, "x", 1) == 0);
    f.server.remove_ticket(ticket.id);  // the 403 names the ticket
    CHECK(client.write(0, "x", 1) == EPERM);
    CHECK(client.flush() == EPERM);
  }
  nbdkit.stop();
  CHECK(has(nbdkit.log(), "the ticket expired, was cancelled or does not allow this"));
  CHECK(has(nbdkit.log(), "/images/..."));
  CHECK_FALSE(has(nbdkit.log(), ticket.id));
}

TEST_CASE("a start that can't succeed fails at once, with one line", "[e2e]") {
  const auto errors = [](const Nbdkit& nbdkit) {
    size_t count = 0;
    const std::string log = nbdkit.log();
    for (size_t at = log.find("error:"); at != log.npos; at = log.find("error:", at + 1)) ++count;
    return count;
  };
  Fixture f;
  SECTION("nobody listens") {
    f.server.stop_listening();
    Nbdkit nbdkit(f.keys());
    require_failed_with(nbdkit, "could not connect");
    CHECK(errors(nbdkit) == 1);
  }
  SECTION("the handshake hangs") {
    f.server.add_fault({.op = Op::connect, .times = 0, .action = Action::no_handshake});
    Nbdkit nbdkit(f.keys({"connect-timeout=1"}));
    require_failed_with(nbdkit, "could not connect within 1 seconds (connect-timeout=)");
    CHECK(errors(nbdkit) == 1);
  }
  SECTION("OPTIONS hang") {
    f.server.add_fault({.op = Op::options, .times = 0, .action = Action::stall});
    Nbdkit nbdkit(f.keys({"connect-timeout=1"}));
    require_failed_with(nbdkit, "no progress");
  }
  SECTION("the ticket is unknown") {
    f.server.remove_ticket("ticket");
    Nbdkit nbdkit(f.keys());
    require_failed_with(nbdkit, "403");
    CHECK(errors(nbdkit) == 1);
  }
  SECTION("the size is another one") {
    Nbdkit nbdkit(f.keys({"size=1G"}));
    require_failed_with(nbdkit,
                        "size=1073741824 is not the size of the disk at the server, "
                        "which is 67108864");
    CHECK(errors(nbdkit) == 1);
  }
  SECTION("the size can't be known") {
    f.server.add_fault({.op = Op::get, .times = 0, .action = Action::status, .status = 400});
    f.server.add_fault({.op = Op::extents, .times = 0, .action = Action::status, .status = 404});
    Nbdkit nbdkit(f.keys());
    require_failed_with(nbdkit, "size= is needed");
    CHECK(Nbdkit(f.keys({"size=64M"})).serves());
  }
  SECTION("without a size of the whole in replies the extents tell it") {
    f.server.add_fault({.op = Op::get, .times = 0, .action = Action::status, .status = 400});
    Nbdkit nbdkit(f.keys());
    REQUIRE(nbdkit.serves());
    NbdClient client(nbdkit);
    CHECK(nbd_get_size(client.handle()) == static_cast<int64_t>(kSize));
  }
  CHECK(f.server.counters().changes == 0);
}

TEST_CASE("replies that lie give EIO, and what they say is not believed", "[e2e]") {
  Fixture f;
  const auto data = pattern(9, 65536);
  f.server.fill("ticket", 0, data);
  Nbdkit nbdkit(f.keys({"timeout=2"}));
  NbdClient client(nbdkit);
  std::vector<char> buffer(65536);

  const Action lies[] = {Action::wrong_content_range,
                         Action::wrong_status_200_on_get,
                         Action::lie_short_content_length,
                         Action::lie_long_content_length,
                         Action::garbage_status_line,
                         Action::garbage,
                         Action::raw_json,
                         Action::truncate_reply_body,
                         Action::close_mid_reply};
  for (const Action action : lies) {
    INFO(name_of(action));
    f.server.add_fault({.op = Op::get, .action = action, .body = "{}"});
    CHECK(client.read(0, buffer.data(), buffer.size()) == EIO);
    REQUIRE(client.read(0, buffer.data(), buffer.size()) == 0);
    CHECK(buffer == data);
  }
  std::vector<std::pair<uint64_t, uint32_t>> extents;
  const std::string bodies[] = {"",
                                "{}",
                                "[]",
                                "[{\"start\":0}]",
                                "[{\"start\":0,\"length\":10,\"zero\":true}]",
                                std::string(10 << 20, '['),
                                std::string(10 << 20, ' '),
                                "[" + std::string(20 << 20, ' ') + "]"};
  for (const std::string& body : bodies) {
    INFO(body.size());
    f.server.add_fault({.op = Op::extents, .action = Action::raw_json, .body = body});
    CHECK(client.extents(0, kSize, extents) == EIO);
  }
  REQUIRE(client.extents(0, kSize, extents) == 0);
  REQUIRE(client.write(0, data.data(), data.size()) == 0);
  REQUIRE(client.flush() == 0);
}

TEST_CASE("OPTIONS that lie end the start with one line", "[e2e]") {
  Fixture f;
  const std::string bodies[] = {"",
                                "nonsense",
                                "[]",
                                "{}",
                                "{\"features\":7}",
                                "{\"features\":[],\"max_writers\":0}",
                                std::string(10 << 20, '[')};
  for (const std::string& body : bodies) {
    INFO(body.size());
    f.server.add_fault({.op = Op::options, .action = Action::raw_json, .body = body});
    require_failed_with(Nbdkit(f.keys()), "repl");
  }
  f.server.add_fault({.op = Op::options,
                      .action = Action::raw_json,
                      .body = R"({"features":["time-travel","flush"],"new":{"a":[]}})"});
  CHECK(Nbdkit(f.keys()).serves());
}

TEST_CASE("with write-back what nobody has flushed is sent before nbdkit ends", "[e2e]") {
  ServerOptions options;
  options.request_delay = 100ms;
  Fixture f(options);
  Nbdkit nbdkit(f.keys({"replay=16M", "write-back=true", "connections=1", "max-request=64K"}));
  constexpr uint64_t kBytes = 2 << 20;
  {
    NbdClient client(nbdkit);
    const auto data = pattern(7, kBytes);
    CHECK(client.write(0, data.data(), data.size()) == 0);
    CHECK(f.server.counters().bytes_put < kBytes);  // acknowledged before
  }
  nbdkit.stop();
  INFO(nbdkit.log());
  CHECK(f.server.counters().bytes_put == kBytes);
}

TEST_CASE("the connections are closed when nbdkit ends", "[e2e]") {
  Fixture f;
  Nbdkit nbdkit(f.keys());
  {
    // nbdkit 1.32 itself waits for clients that stay connected.
    NbdClient client(nbdkit);
    REQUIRE(client.write(0, "x", 1) == 0);
  }
  nbdkit.stop();
  CHECK(WIFEXITED(nbdkit.wait_status()));
  CHECK(f.server.wait_until([](const Counters& c) { return c.connections_open == 0; }, 20s));
}

TEST_CASE("eight clients, random overlapping I/O, 100000 operations, one model", "[e2e]") {
  constexpr uint64_t kDisk = 2 << 20;
  constexpr uint64_t kClients = 8;
  constexpr uint64_t kOperations = 100000;
  TicketOptions ticket;
  ticket.size_bytes = kDisk;
  Fixture f({}, ticket);
  Watchdog watchdog("random I/O of eight clients", 900s);
  Nbdkit nbdkit(f.keys());
  Model model(kDisk);
  std::atomic<uint64_t> next = 0;
  std::atomic<uint64_t> wrong = 0;
  std::atomic<uint64_t> failed = 0;
  std::vector<std::thread> threads;
  for (uint64_t c = 0; c < kClients; ++c) {
    threads.emplace_back([&, c] {
      NbdClient client(nbdkit);
      uint64_t seed = 1234567 + c;
      const auto random = [&](uint64_t below) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        return (seed >> 33) % below;
      };
      std::vector<char> buffer(64 * Geometry::kCell);
      while (++next <= kOperations) {
        // Half of the operations meet in a small place. None is among the cells of a byte,
        // which nobody could address in blocks.
        const uint64_t cells =
            random(2) == 0 ? 64 : model.geometry().cells() - Geometry::kByteCells;
        const uint64_t count = 1 + random(random(4) == 0 ? 32 : 4);
        const Cells where{Geometry::kByteCells + random(cells - count + 1), count};
        const std::span<char> data(buffer.data(), Geometry::bytes_of(where));
        const uint64_t offset = Geometry::offset_of(where.first);
        const uint64_t kind = random(100);
        int result = 0;
        if (kind < 60) {
          const bool zero = kind >= 45;
          const bool fua = kind < 5 || kind == 45 || kind == 46;
          const Model::Time operation = model.begin_write(where, zero);
          if (!zero) Model::fill(where, operation, data);
          result = zero ? client.zero(offset, data.size(), fua)
                        : client.write(offset, data.data(), data.size(), fua);
          model.end_write(operation, where, result == 0, fua);
        } else {
          const Model::Time operation = model.begin();
          if (kind < 98) {
            result = client.read(offset, data.data(), data.size());
            if (result == 0) wrong += model.check_read(operation, where, data).size();
          } else {
            result = client.flush();
            if (result == 0) model.flushed(operation);
          }
          model.end(operation);
        }
        if (result != 0) ++failed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == 0);
  CHECK(wrong == 0);
  NbdClient client(nbdkit);
  const Model::Time operation = model.begin();
  REQUIRE(client.flush() == 0);
  model.flushed(operation);
  model.end(operation);
  const Cells disk{0, model.geometry().cells()};
  CHECK(model.check_stable(disk, model.floors(disk), f.stable(0, kDisk)).empty());
  CHECK(f.server.counters().overlapping_changes == 0);
}

TEST_CASE(
    "nbdkit's multi-conn filter swallows a flush with its defaults, and not with "
    "multi-conn-track-dirty=off",
    "[e2e]") {
  const bool tracks = GENERATE(true, false);
  Fixture f;
  std::vector<std::string> keys;
  if (!tracks) keys.push_back("multi-conn-track-dirty=off");
  Nbdkit nbdkit(f.keys(keys), {"--filter=multi-conn"});
  INFO(nbdkit.log());
  REQUIRE(nbdkit.serves());
  NbdClient client(nbdkit);
  nbd_handle* const h = client.handle();
  f.server.add_fault({.op = Op::put, .action = Action::stall});
  const auto data = pattern(4, 4096);
  const int64_t write = nbd_aio_pwrite(h, data.data(), data.size(), 0, {}, 0);
  REQUIRE(write > 0);
  REQUIRE(f.server.wait_until([](const Counters& c) { return c.stalled == 1; }, 20s));
  REQUIRE(client.flush() == 0);
  f.server.release_stalled();
  while (nbd_aio_command_completed(h, static_cast<uint64_t>(write)) == 0)
    REQUIRE(nbd_poll(h, -1) != -1);
  REQUIRE(client.flush() == 0);
  CHECK((f.stable(0, data.size()) == data) == !tracks);
}
