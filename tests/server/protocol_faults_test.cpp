// SPDX-License-Identifier: BSD-3-Clause
//
// Each fault at a write and at a read, in each protocol: what is applied and what is not is the
// same everywhere, and the server goes on.
//
// Threads: the server's, and one for a request that stalls. Nothing sleeps; one fault lies about a
// length and is met by a client with a short time-out.

#include <future>
#include <string>

#include "catch.h"
#include "server.h"
#include "test_client.h"

namespace upload::testserver {

namespace {

constexpr std::chrono::milliseconds kLong{15'000};
constexpr std::size_t kBytes = 512;

/// How one protocol writes and reads a page of the ticket "disk".
struct Dialect {
  const char* name;
  ProtocolKind kind;
  const char* put_suffix;
  std::vector<std::string> put_headers;
  std::vector<std::string> get_headers;
};

const Dialect kDialects[] = {
    {"imageio",
     ProtocolKind::imageio,
     "?flush=y",
     {"Content-Range: bytes 512-*/*"},
     {"Range: bytes=512-1023"}},
    {"azure",
     ProtocolKind::azure,
     "?comp=page",
     {"x-ms-version: 2021-12-02", "x-ms-page-write: update", "x-ms-range: bytes=512-1023"},
     {"x-ms-version: 2021-12-02", "x-ms-range: bytes=512-1023"}},
    {"webdav",
     ProtocolKind::webdav,
     "",
     {"Content-Range: bytes 512-1023/*"},
     {"Range: bytes=512-1023"}},
};

struct Case {
  Action action;
  int status = 0;
  bool applied = false;
};

const Case kCases[] = {
    {Action::close_before_body},
    {Action::reset},
    {Action::answer_before_body},
    {Action::stall, 0, true},
    {Action::delay, 0, true},
    {Action::close_after_body},
    {Action::status, 403},
    {Action::status, 500},
    {Action::status, 503},
    {Action::status, 204, true},
    {Action::server_busy},
    {Action::operation_timed_out},
    {Action::close_after_apply, 0, true},
    {Action::reset_after_apply, 0, true},
    {Action::stall_after_apply, 0, true},
    {Action::close_mid_reply, 0, true},
    {Action::truncate_reply_body, 0, true},
    {Action::garbage_status_line, 0, true},
    {Action::garbage, 0, true},
    {Action::connection_close, 0, true},
    {Action::close_after_reply, 0, true},
    {Action::raw_json, 0, true},
    {Action::chunked, 0, true},
    {Action::no_content_length, 0, true},
    {Action::lie_short_content_length, 0, true},
    {Action::lie_long_content_length, 0, true},
    {Action::wrong_content_range, 0, true},
    {Action::wrong_status_200_on_get, 0, true},
};

ServerOptions options_of(const Dialect& dialect) {
  ServerOptions options;
  options.tls = false;
  options.protocol = dialect.kind;
  return options;
}

class Fixture {
 public:
  explicit Fixture(const Dialect& dialect) : server(options_of(dialect)), dialect_(dialect) {
    TicketOptions ticket;
    ticket.id = "disk";
    ticket.size_bytes = 4096;
    server.add_ticket(ticket);
    server.start();
  }

  Answer put(char c, long timeout_ms = 20'000) const {
    return client(timeout_ms)
        .request("PUT", dialect_.put_suffix, dialect_.put_headers, std::string(kBytes, c));
  }
  Answer get(long timeout_ms = 20'000) const {
    return client(timeout_ms).request("GET", "", dialect_.get_headers, "");
  }
  std::string stable() const {
    const auto data = server.read_stable("disk", 512, kBytes);
    return {data.begin(), data.end()};
  }

  /// Asks, with a fault on the way, and lets the request go on if that stalls it.
  void meet(const Case& one, Op op, const std::function<Answer(long)>& ask) {
    Fault fault;
    fault.op = op;
    fault.action = one.action;
    fault.status = one.status;
    fault.body = "{}";
    server.add_fault(fault);
    const bool stalls = one.action == Action::stall || one.action == Action::stall_after_apply;
    const long timeout_ms = one.action == Action::lie_long_content_length ? 200 : 20'000;
    auto answer = std::async(std::launch::async, [&] { return ask(timeout_ms); });
    if (stalls) {
      REQUIRE(server.wait_until([](const Counters& c) { return c.stalled == 1; }, kLong));
      server.release_stalled();
    }
    static_cast<void>(answer.get());
    CHECK(server.counters().faults_fired == 1);
  }

  Server server;

 private:
  TestClient client(long timeout_ms) const {
    ClientOptions options;
    options.timeout_ms = timeout_ms;
    options.never_reconnect = true;
    return TestClient(server.url("disk"), options);
  }

  const Dialect& dialect_;
};

}  // namespace

TEST_CASE("A write that meets a fault is applied, or is not, whatever the protocol") {
  for (const Dialect& dialect : kDialects) {
    for (const Case& one : kCases) {
      CAPTURE(dialect.name, name_of(one.action), one.status);
      Fixture f(dialect);
      REQUIRE(f.put('a').ok());
      f.meet(one, Op::put, [&](long timeout_ms) { return f.put('b', timeout_ms); });
      CHECK(f.stable() == std::string(kBytes, one.applied ? 'b' : 'a'));
      CHECK(f.server.counters().active_requests == 0);
      REQUIRE(f.put('c').ok());
      CHECK(f.get().body == std::string(kBytes, 'c'));
    }
  }
}

TEST_CASE("A server that ends in the middle of a body has applied half of it in WebDAV only") {
  for (const Dialect& dialect : kDialects) {
    CAPTURE(dialect.name);
    Fixture f(dialect);
    REQUIRE(f.put('a').ok());
    f.meet({Action::close_mid_body}, Op::put,
           [&](long timeout_ms) { return f.put('b', timeout_ms); });
    const bool half = dialect.kind == ProtocolKind::webdav;
    CHECK(f.stable() == std::string(kBytes / 2, half ? 'b' : 'a') + std::string(kBytes / 2, 'a'));
    REQUIRE(f.put('c').ok());
    CHECK(f.get().body == std::string(kBytes, 'c'));
  }
}

TEST_CASE("A read that meets a fault leaves the server as it was, whatever the protocol") {
  for (const Dialect& dialect : kDialects) {
    for (const Case& one : kCases) {
      CAPTURE(dialect.name, name_of(one.action), one.status);
      Fixture f(dialect);
      REQUIRE(f.put('a').ok());
      f.meet(one, Op::get, [&](long timeout_ms) { return f.get(timeout_ms); });
      CHECK(f.get().body == std::string(kBytes, 'a'));
    }
  }
}

}  // namespace upload::testserver
