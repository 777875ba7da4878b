// SPDX-License-Identifier: BSD-3-Clause
//
// Pins what the test server does when it speaks WebDAV. That Apache does the same is
// tests/stand_in.sh's business.
//
// Threads: the server's. Nothing sleeps: what happens on another thread is waited for by counters.

#include <string>

#include "catch.h"
#include "raw_client.h"
#include "server.h"
#include "test_client.h"

namespace upload::testserver {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLong{15'000};

using Headers = std::vector<std::string>;

ServerOptions webdav_options() {
  ServerOptions options;
  options.tls = false;
  options.protocol = ProtocolKind::webdav;
  return options;
}

/// A started server with a file "disk" of ten bytes, and a client.
class Fixture {
 public:
  explicit Fixture(ServerOptions options = webdav_options()) : server(std::move(options)) {
    TicketOptions ticket;
    ticket.id = "disk";
    ticket.size_bytes = 10;
    server.add_ticket(ticket);
    server.fill("disk", 0, std::string("0123456789"));
    server.start();
    client = std::make_unique<TestClient>(server.url("disk"), ClientOptions{});
  }

  Answer put(const std::string& range, const std::string& data) const {
    return client->request("PUT", "", {"Content-Range: bytes " + range}, data);
  }
  Answer get(const std::string& range) const {
    return client->request("GET", "", {"Range: " + range}, "");
  }
  std::string content(const std::string& id = "disk") const {
    for (const TicketOptions& ticket : server.tickets()) {
      if (ticket.id == id) {
        const auto data = server.read_stable(id, 0, ticket.size_bytes);
        return {data.begin(), data.end()};
      }
    }
    return "none";
  }
  /// Until the server has done with a connection's requests.
  void wait_for_end(Op op, std::uint64_t requests) const {
    REQUIRE(server.wait_until(
        [=](const Counters& c) {
          return c.requests_of(op) == requests && c.active_requests == 0;
        },
        kLong));
  }

  Server server;
  std::unique_ptr<TestClient> client;
};

std::string begin_put(const std::string& id, const std::string& more) {
  return "PUT /dav/" + id + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n" + more +
         "\r\n";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("WebDAV: a PUT with a range changes the file in place, and is stable") {
  const Fixture f;
  CHECK(f.put("2-4/*", "abc").status == 204);
  CHECK(f.content() == "01abc56789");
  // Only where it begins counts.
  CHECK(f.put("2-2/10", "ABCD").status == 204);
  CHECK(f.content() == "01ABCD6789");
  CHECK(f.put("0-5/*", "").status == 204);
  CHECK(f.put("12-13/*", "xy").status == 204);
  CHECK(f.content() == "01ABCD6789" + std::string(2, '\0') + "xy");
  CHECK(f.server.unflushed_bytes("disk") == 0);
  CHECK(f.server.counters().requests_of(Op::put) == 4);
}

TEST_CASE("WebDAV: a range that is malformed is refused, and closes the connection") {
  const Fixture f;
  for (const std::string range : {"*/10", "5-3/10", "2-4", "2-*/*", "2-4/3", "x"}) {
    CAPTURE(range);
    const Answer answer = f.put(range, "abc");
    CHECK(answer.status == 400);
    CHECK(contains(answer.header, "connection: close"));
  }
  CHECK(f.client->request("PUT", "", {"Content-Range: 2-4/10"}, "abc").status == 400);
  CHECK(f.content() == "0123456789");
}

TEST_CASE("WebDAV: a PUT with a range makes a file that is not there") {
  const Fixture f;
  TestClient other(f.server.url("new"), {});
  CHECK(other.request("HEAD", "", {}, "").status == 404);
  CHECK(other.request("PUT", "", {"Content-Range: bytes 2-4/*"}, "abc").status == 201);
  CHECK(f.content("new") == std::string(2, '\0') + "abc");
}

TEST_CASE("WebDAV: a PUT with a range that is cut off leaves its first part") {
  const Fixture f;
  {
    RawClient raw(f.server.port());
    raw.send(begin_put("disk", "Content-Range: bytes 2-9/*\r\n") + "abcd");
  }
  f.wait_for_end(Op::put, 1);
  CHECK(f.content() == "01abcd6789");
}

TEST_CASE("WebDAV: a server that ends in the middle of a body has applied the first half") {
  Fixture f;
  Fault cut;
  cut.op = Op::put;
  cut.action = Action::close_mid_body;
  f.server.add_fault(cut);
  TestClient other(f.server.url("disk"), ClientOptions{.never_reconnect = true});
  CHECK(other.request("PUT", "", {"Content-Range: bytes 2-9/*"}, "abcdefgh").code != CURLE_OK);
  CHECK(f.content() == "01abcd6789");
}

TEST_CASE("WebDAV: a PUT that has made the file and is cut off deletes it") {
  const Fixture f;
  {
    RawClient raw(f.server.port());
    raw.send(begin_put("new", "Content-Range: bytes 2-9/*\r\n") + "abcd");
  }
  f.wait_for_end(Op::put, 1);
  CHECK(f.content("new") == "none");
}

TEST_CASE("WebDAV: a PUT of a whole file replaces it as a whole or not at all") {
  const Fixture f;
  CHECK(f.client->request("PUT", "", {}, "abc").status == 204);
  CHECK(f.content() == "abc");
  {
    RawClient raw(f.server.port());
    raw.send(begin_put("disk", "") + "abcd");
  }
  f.wait_for_end(Op::create, 2);
  CHECK(f.content() == "abc");
  TestClient other(f.server.url("new"), {});
  CHECK(other.request("PUT", "", {}, "").status == 201);
  CHECK(f.content("new").empty());
  CHECK(other.request("GET", "", {"Range: bytes=0-0"}, "").status == 200);
}

TEST_CASE("WebDAV: a chunked body is as good as any") {
  const Fixture f;
  RawClient raw(f.server.port());
  raw.send(
      "PUT /dav/disk HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
      "Content-Range: bytes 1-4/*\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n");
  CHECK(contains(raw.receive_until("\r\n\r\n"), "204 No Content"));
  CHECK(f.content() == "0abcd56789");
}

TEST_CASE("WebDAV: reads of ranges") {
  const Fixture f;
  const Answer part = f.get("bytes=2-4");
  CHECK(part.status == 206);
  CHECK(part.body == "234");
  CHECK(contains(part.header, "content-range: bytes 2-4/10"));
  CHECK(f.get("bytes=8-100").body == "89");
  CHECK(f.get("bytes=-3").body == "789");
  CHECK(f.get("bytes=7-").body == "789");
  CHECK(f.get("bytes=5-3").status == 200);
  CHECK(f.get("junk").body == "0123456789");
  CHECK(f.get("bytes=10-").status == 416);
  const Answer head = f.client->request("HEAD", "", {}, "");
  CHECK(head.status == 200);
  CHECK(contains(head.header, "content-length: 10"));
  CHECK(contains(head.header, "accept-ranges: bytes"));
}

TEST_CASE("WebDAV: a file is deleted, and what it can do is told") {
  const Fixture f;
  const Answer options = f.client->options();
  CHECK(options.status == 200);
  CHECK(contains(options.header, "dav: 1,2\r\n"));
  CHECK(f.client->request("PATCH", "", {}, "x").status == 405);
  CHECK(f.client->request("DELETE", "", {}, "").status == 204);
  CHECK(f.client->request("DELETE", "", {}, "").status == 404);
  CHECK(f.client->request("GET", "", {}, "").status == 404);
  CHECK(f.client->options().status == 200);
}

TEST_CASE("WebDAV: a server that ignores Content-Range leaves the range's data only") {
  ServerOptions options = webdav_options();
  options.webdav_content_range = ContentRangeMode::ignored;
  const Fixture f(options);
  CHECK(f.put("2-4/*", "abc").status == 204);
  CHECK(f.content() == "abc");
}

TEST_CASE("WebDAV: a server that refuses Content-Range changes nothing") {
  ServerOptions options = webdav_options();
  options.webdav_content_range = ContentRangeMode::refused;
  const Fixture f(options);
  CHECK(f.put("2-4/*", "abc").status == 501);
  CHECK(f.content() == "0123456789");
}

TEST_CASE("WebDAV: credentials are asked for") {
  ServerOptions options = webdav_options();
  options.require_authorization = "Basic dTpw";
  const Fixture f(options);
  const Answer refused = f.put("2-4/*", "abc");
  CHECK(refused.status == 401);
  CHECK(contains(refused.header, "www-authenticate: Basic"));
  CHECK(
      f.client
          ->request("PUT", "", {"Content-Range: bytes 2-4/*", "Authorization: Basic dTpw"}, "abc")
          .status == 204);
}

TEST_CASE("A connection may carry so many requests, and says how many are left") {
  ServerOptions options = webdav_options();
  options.requests_per_connection = 3;
  options.idle_close = milliseconds(5000);
  const Fixture f(options);
  const auto ask = [&] { return f.client->request("HEAD", "", {"Connection: keep-alive"}, ""); };
  CHECK(contains(ask().header, "keep-alive: timeout=5, max=2\r\nconnection: Keep-Alive\r\n"));
  CHECK(contains(ask().header, "keep-alive: timeout=5, max=1\r\n"));
  const Answer last = ask();
  CHECK(contains(last.header, "connection: close\r\n"));
  CHECK_FALSE(contains(last.header, "keep-alive"));
  const Answer next = f.client->request("HEAD", "", {}, "");
  CHECK(next.new_connections == 1);
  CHECK_FALSE(contains(next.header, "keep-alive"));
}

TEST_CASE("WebDAV: a change that comes late is applied beyond the end, too") {
  Fixture f;
  f.server.set_late_apply(milliseconds(1));
  Fault late;
  late.op = Op::put;
  late.action = Action::close_after_body;
  f.server.add_fault(late);
  TestClient other(f.server.url("disk"), ClientOptions{.never_reconnect = true});
  CHECK(other.request("PUT", "", {"Content-Range: bytes 9-11/*"}, "abc").code != CURLE_OK);
  REQUIRE(f.server.wait_until([](const Counters& c) { return c.late_applied == 1; }, kLong));
  CHECK(f.content() == "012345678abc");
}

}  // namespace upload::testserver
