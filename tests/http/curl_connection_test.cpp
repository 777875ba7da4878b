// SPDX-License-Identifier: BSD-3-Clause
//
// CurlConnection against a peer that says what no server should: every request ends, with
// a reply that is one or with a failure that says what was wrong, in bounded memory.

#include "http/curl_connection.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>

#include "catch.h"
#include "http/peer.h"
#include "unit/fakes.h"

using namespace upload;
using namespace upload::http;
using upload::testing::Peer;
using Talk = Peer::Talk;

namespace {

// More than any bound here, and so much that keeping it would show.
constexpr uint64_t kEndless = uint64_t{256} << 20;

std::shared_ptr<Origin> origin_of(const Peer& peer, const std::string& scheme = "http") {
  auto origin = std::make_shared<Origin>();
  origin->url =
      parse_url(scheme + "://127.0.0.1:" + std::to_string(peer.port()) + "/images/ticket")
          .value();
  origin->insecure = true;
  origin->timeout = std::chrono::seconds(20);
  return origin;
}

std::unique_ptr<Connection> connect(const std::shared_ptr<Origin>& origin) {
  return make_curl_connection(origin, std::make_shared<Addresses>(), 1, {});
}

Request get() {
  Request request;
  request.target = "/images/ticket";
  request.what = "get";
  return request;
}

// What a request for something gets.
Result<Reply> ask(const Peer& peer, const Request& request = get()) {
  return connect(origin_of(peer))->perform(request);
}

std::string said(const Result<Reply>& reply) {
  return reply.ok() ? "status " + std::to_string(reply.value().status) : reply.status().text();
}

bool has(const Result<Reply>& reply, const std::string& text) {
  INFO(said(reply));
  CHECK(said(reply).find(text) != std::string::npos);
  return said(reply).find(text) != std::string::npos;
}

// In bytes; only ever grows.
uint64_t most_memory() {
  struct rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) << 10;
}

// This process's socket that is connected to that port on loopback, or -1.
int socket_to(uint16_t port) {
  for (int fd = 0; fd < 1024; ++fd) {
    sockaddr_in address = {};
    socklen_t length = sizeof address;
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
        address.sin_family == AF_INET && ntohs(address.sin_port) == port)
      return fd;
  }
  return -1;
}

const std::string kOk = "HTTP/1.1 200 OK\r\n";

// OpenSSL reads its configuration when it is first used, which is after this.
const bool kWeakOpenssl = [] {
  const std::string text =
      "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = weak\n"
      "[weak]\nMinProtocol = TLSv1\nCipherString = ALL:@SECLEVEL=0\n";
  const int fd = memfd_create("openssl.cnf", 0);
  if (write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) abort();
  return setenv("OPENSSL_CONF", ("/proc/self/fd/" + std::to_string(fd)).c_str(), 1) == 0;
}();

}  // namespace

TEST_CASE("what comes with a reply and has no end is not waited for or kept", "[http]") {
  const struct {
    const char* what;
    std::string before;
    std::string endless;
    const char* text;
  } cases[] = {
      {"header fields", kOk, "X-Field: value\r\n", "the reply's header is longer than it may be"},
      {"a line of the header", kOk + "X-Field: ", "value", "header"},
      {"the first line", "HTTP/1.1 200 ", "OK", "header"},
      {"interim replies", "", "HTTP/1.1 100 Continue\r\n\r\n", "header is longer than it may be"},
      {"interim fields", "HTTP/1.1 103 Early Hints\r\n", "Link: </>\r\n", "header is longer"},
      {"trailers", kOk + "Transfer-Encoding: chunked\r\n\r\n0\r\n", "X-Field: value\r\n",
       "header is longer than it may be"},
      {"one trailer", kOk + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-Field: ", "value", ""},
      {"a body", kOk + "\r\n", "body", "the reply is longer than it may be (65536 bytes)"},
      {"a body in chunks", kOk + "Transfer-Encoding: chunked\r\n\r\n", "4\r\nbody\r\n",
       "the reply is longer than it may be (65536 bytes)"},
  };
  for (const auto& example : cases) {
    INFO(example.what);
    std::atomic<uint64_t> sent = 0;
    const uint64_t before = most_memory();
    {
      const Peer peer([&](Talk& talk) {
        if (talk.request().empty()) return;
        talk.send(example.before);
        sent = talk.send_again_and_again(example.endless, kEndless);
      });
      const auto reply = ask(peer);
      CHECK_FALSE(reply.ok());
      has(reply, example.text);
      CHECK((reply.ok() || reply.status().kind() != Kind::kNoMemory));
      CHECK(said(reply).find("out of memory") == std::string::npos);
    }
    CHECK(sent < kEndless / 4);
    CHECK(most_memory() - before < kEndless / 4);
  }
}

TEST_CASE("a chunk's extension without an end is no progress", "[http]") {
  const Peer peer([&](Talk& talk) {
    if (talk.request().empty()) return;
    talk.send(kOk + "Transfer-Encoding: chunked\r\n\r\n4;a=");
    talk.send_again_and_again("value", UINT64_MAX);
  });
  auto origin = origin_of(peer);
  origin->timeout = std::chrono::seconds(2);
  const uint64_t before = most_memory();
  const auto reply = connect(origin)->perform(get());
  has(reply, "no progress for 2 seconds (timeout=)");
  CHECK(most_memory() - before < kEndless / 4);
}

TEST_CASE("a body that somebody takes is passed on and not kept", "[http]") {
  struct Taker : BodySink {
    Status take(std::string_view piece) override {
      taken += piece.size();
      return taken > most ? Status(Kind::kMalformed, "it is enough") : Status();
    }
    uint64_t taken = 0;
    uint64_t most = kEndless;
  };
  const Peer peer([&](Talk& talk) {
    if (talk.request().empty()) return;
    talk.send(kOk + "\r\n");
    talk.send_again_and_again("body", kEndless);
  });
  Taker taker;
  Request request = get();
  request.body_sink = &taker;
  const uint64_t before = most_memory();
  const auto reply = ask(peer, request);
  REQUIRE(reply.ok());
  CHECK(reply.value().body.empty());
  CHECK(taker.taken >= kEndless);
  CHECK(most_memory() - before < kEndless / 4);

  taker.most = 100000;
  taker.taken = 0;
  has(ask(peer, request), ": it is enough");
  CHECK(taker.taken < 1000000);
}

TEST_CASE("a proxy's reply to CONNECT has bounds too", "[http]") {
  for (const std::string endless : {"X-Field: value\r\n", "value"}) {
    const Peer proxy([&](Talk& talk) {
      if (talk.request().empty()) return;
      talk.send(kOk + "X-First: ");
      talk.send_again_and_again(endless, kEndless);
    });
    auto origin = origin_of(proxy);
    origin->url = parse_url("http://localhost:1/images/ticket").value();
    origin->proxy = "http://127.0.0.1:" + std::to_string(proxy.port());
    const auto reply = connect(origin)->perform(get());
    CHECK_FALSE(reply.ok());
    CHECK(said(reply).find(": out of memory") == std::string::npos);
  }
}

TEST_CASE("a proxy whose reply to CONNECT has no end is given up like one that says nothing",
          "[http]") {
  const Peer proxy([&](Talk& talk) {
    if (talk.request().empty()) return;
    talk.send("HTTP/1.1 407 No\r\nContent-Length: 99999999999999\r\n\r\n");
    talk.send_again_and_again("body", UINT64_MAX);
  });
  auto origin = origin_of(proxy);
  origin->url = parse_url("http://localhost:1/images/ticket").value();
  origin->proxy = "http://127.0.0.1:" + std::to_string(proxy.port());
  origin->connect_timeout = std::chrono::seconds(1);
  has(connect(origin)->perform(get()), "could not connect within 1 seconds (connect-timeout=)");
}

TEST_CASE("a reply that comes drop by drop is waited for as long as it may take", "[http]") {
  const Peer peer([&](Talk& talk) {
    if (talk.request().empty()) return;
    talk.send(kOk + "Transfer-Encoding: chunked\r\n\r\n");
    while (talk.send("4\r\nbody\r\n")) std::this_thread::yield();
  });
  Request request = get();
  request.max_reply = UINT64_MAX;
  struct Taker : BodySink {
    Status take(std::string_view) override { return {}; }
  } taker;
  request.body_sink = &taker;
  request.within = std::chrono::seconds(1);
  has(ask(peer, request), "the whole reply did not come within 1 seconds");
}

TEST_CASE("what is no reply of HTTP/1.1 is none", "[http]") {
  for (const std::string bytes :
       {"all is well\n", "\r\n\r\n", "HTTP/0.9 200 OK\r\n\r\n", "HTTP/2 200\r\n\r\nx",
        "HTTP/211 503 No\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n"}) {
    INFO(bytes);
    const Peer peer([&](Talk& talk) {
      if (!talk.request().empty()) talk.send(bytes);
    });
    const auto reply = ask(peer);
    INFO(said(reply));
    CHECK_FALSE(reply.ok());
  }
}

TEST_CASE("a success that comes before the whole body was sent is none", "[http]") {
  const std::vector<char> body(size_t{64} << 20, 'x');
  Request put = get();
  put.method = Method::kPut;
  put.parts = {{body.data(), body.size()}};
  // Whoever goes on reading in the end has all of it, but after Connection: close libcurl
  // sends no more.
  const struct {
    const char* end;
    bool reads_on;
  } cases[] = {
      {"Content-Length: 0\r\n\r\n", false},
      {"Content-Length: 2\r\n\r\nok", false},
      {"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
      {"Connection: close\r\n\r\nok", false},
      {"Content-Length: 0\r\nConnection: close\r\n\r\n", true},
  };
  for (const auto& example : cases) {
    INFO(example.end);
    const Peer peer([&](Talk& talk) {
      talk.send(kOk + example.end);
      if (example.reads_on) talk.await_close();
    });
    const auto reply = ask(peer, put);
    INFO(said(reply));
    CHECK_FALSE(reply.ok());
  }
}

TEST_CASE("a redirection is a reply and is not followed", "[http]") {
  const Peer other([](Talk& talk) { talk.request(); });
  const Peer peer([&](Talk& talk) {
    if (!talk.request().empty())
      talk.send("HTTP/1.1 307 Elsewhere\r\nContent-Length: 0\r\nLocation: http://127.0.0.1:" +
                std::to_string(other.port()) + "/\r\n\r\n");
  });
  const auto reply = ask(peer);
  REQUIRE(reply.ok());
  CHECK(reply.value().status == 307);
  CHECK(other.connections() == 0);
}

TEST_CASE("what is compressed stays so, and counts as it is sent", "[http]") {
  const std::string body = "\x1f\x8b\x08 is gzip's beginning";
  std::string request;  // the peer's, while there is one
  Result<Reply> reply = Status(Kind::kLost, "not asked");
  {
    const Peer peer([&](Talk& talk) {
      request = talk.request();
      if (!request.empty())
        talk.send(kOk + "Content-Encoding: gzip\r\nContent-Length: " +
                  std::to_string(body.size()) + "\r\n\r\n" + body);
    });
    reply = ask(peer);
  }
  REQUIRE(reply.ok());
  CHECK(reply.value().body == body);
  CHECK(request.find("Accept-Encoding") == std::string::npos);
}

TEST_CASE("credentials are sent once and not again in a weaker way", "[http]") {
  std::string first;  // the peer's, while there is one
  std::string second;
  {
    const Peer peer([&](Talk& talk) {
      first = talk.request();
      if (first.empty()) return;
      talk.send(
          "HTTP/1.1 401 No\r\nContent-Length: 0\r\n"
          "WWW-Authenticate: Basic realm=\"x\"\r\n\r\n");
      second = talk.request();
    });
    const auto connection = connect(origin_of(peer));
    http::Request request = get();
    request.authorization = "Bearer token-0123456789";
    const auto reply = connection->perform(request);
    REQUIRE(reply.ok());
    CHECK(reply.value().status == 401);
  }
  CHECK(first.find("Authorization: Bearer token-0123456789") != std::string::npos);
  CHECK(second.empty());
}

// --- TLS ------------------------------------------------------------------

TEST_CASE("TLS before 1.2 is refused, whatever OpenSSL's configuration allows", "[http]") {
  REQUIRE(kWeakOpenssl);
  for (const int version : {TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION}) {
    const Peer::Tls tls{version, "ALL:@SECLEVEL=0"};
    const Peer peer(
        [&](Talk& talk) {
          if (!talk.request().empty()) talk.send(kOk + "Content-Length: 0\r\n\r\n");
        },
        &tls);
    const auto reply = connect(origin_of(peer, "https"))->perform(get());
    INFO(version << " " << said(reply));
    CHECK(reply.ok() == (version >= TLS1_2_VERSION));
  }
}

TEST_CASE("a small body comes in one TLS record with the header", "[http]") {
  std::vector<char> data(4096);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i % 251);
  std::string record;  // the peer's, while there is one
  std::string second;
  {
    const Peer::Tls tls;
    const Peer peer(
        [&](Talk& talk) {
          for (std::string* const kept : {&record, &second}) {
            kept->resize(size_t{16} << 10);
            const int n = SSL_read(talk.ssl(), kept->data(), static_cast<int>(kept->size()));
            kept->resize(static_cast<size_t>(std::max(n, 0)));
            talk.send(kOk + "Content-Length: 0\r\n\r\n");
          }
        },
        &tls);
    const auto connection = connect(origin_of(peer, "https"));
    Request put = get();
    put.method = Method::kPut;
    put.parts = {{data.data(), 1000}, {nullptr, 4096}, {data.data() + 1000, 3096}};
    CHECK(connection->perform(put).ok());
    // Nothing is left of it in the next request.
    CHECK(connection->perform(get()).ok());
  }
  const std::string body(data.begin(), data.end());
  CHECK(record.starts_with("PUT /images/ticket HTTP/1.1\r\n"));
  CHECK(record.ends_with("\r\n\r\n" + body.substr(0, 1000) + std::string(4096, '\0') +
                         body.substr(1000)));
  CHECK(record.find("\r\nContent-Length: 8192\r\n") != std::string::npos);
  for (const char* name : {"Content-Type", "Expect", "Transfer-Encoding"})
    CHECK(record.find(name) == std::string::npos);
  CHECK(second.starts_with("GET /images/ticket HTTP/1.1\r\n"));
  CHECK(second.ends_with("\r\n\r\n"));
  CHECK(second.find("Content-Length") == std::string::npos);
}

TEST_CASE("a large body goes out corked, and no cork is left at its end", "[http]") {
  std::atomic<int> client = -1;  // the peer's thread looks at it, too
  std::vector<int> corks;        // of the client, when the peer has read so much
  const auto look = [&] {
    int cork = -1;
    socklen_t length = sizeof cork;
    getsockopt(client, IPPROTO_TCP, TCP_CORK, &cork, &length);
    corks.push_back(cork);
  };
  const std::string end = "the end";
  {
    const Peer::Tls tls;
    const Peer peer(
        [&](Talk& talk) {
          std::string tail;
          char buffer[65536];
          for (uint64_t got = 0; !tail.ends_with(end);) {
            const int n = SSL_read(talk.ssl(), buffer, sizeof buffer);
            if (n <= 0) return;
            tail.append(buffer, static_cast<size_t>(n));
            tail.erase(0, tail.size() - std::min(tail.size(), end.size()));
            got += static_cast<uint64_t>(n);
            if (got > 100000 && corks.empty()) look();
          }
          do {
            look();
            talk.send(kOk + "Content-Length: 0\r\n\r\n");
          } while (!talk.request().empty());
        },
        &tls);
    const auto find_client = [&] {
      client = socket_to(peer.port());
      // Any but BBR, with which there is no cork.
      setsockopt(client, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    };
    const auto connection =
        make_curl_connection(origin_of(peer, "https"), std::make_shared<Addresses>(), 1,
                             ConnectionEvents{find_client, {}});
    Request put = get();
    put.method = Method::kPut;
    // The first is more than all sockets hold: its end is not sent before much of it is read.
    for (const uint64_t length : {kEndless, uint64_t{4096}, uint64_t{100000}}) {
      put.parts = {{nullptr, length}, {end.data(), end.size()}};
      const auto reply = connection->perform(put);
      INFO(said(reply));
      REQUIRE(reply.ok());
    }
  }
  CHECK(corks == std::vector<int>{1, 0, 0, 0});
}

TEST_CASE("each connection checks the server's certificate, not the first alone", "[http]") {
  Peer::Tls tls;
  tls.honest = 1;
  const Peer peer(
      [](Talk& talk) {
        if (!talk.request().empty()) talk.send(kOk + "Content-Length: 0\r\n\r\n");
      },
      &tls);
  auto origin = origin_of(peer, "https");
  origin->insecure = false;
  origin->ca_pem = peer.authority();
  const auto first = connect(origin)->perform(get());
  INFO(said(first));
  CHECK(first.ok());
  const auto second = connect(origin)->perform(get());
  CHECK(second.status().kind() == Kind::kConnect);
  has(second, "certificate");
  CHECK(peer.connections() == 2);
}

TEST_CASE("a server that asks for a new handshake while nothing is asked has not closed",
          "[http]") {
  const Peer::Tls tls{TLS1_2_VERSION, nullptr};
  std::atomic<bool> answered = false;  // the first request
  std::atomic<bool> asked = false;     // for a new handshake
  const Peer peer(
      [&](Talk& talk) {
        if (talk.request().empty()) return;
        talk.send(kOk + "Content-Length: 0\r\n\r\n");
        while (!answered) std::this_thread::yield();
        SSL_renegotiate(talk.ssl());
        SSL_do_handshake(talk.ssl());
        talk.await_delivery();
        asked = true;
        if (talk.request().empty()) return;
        talk.send(kOk + "Content-Length: 2\r\n\r\nok");
        talk.await_close();
      },
      &tls);
  const auto connection = connect(origin_of(peer, "https"));
  const bool good = connection->perform(get()).ok();
  answered = true;
  REQUIRE(good);
  while (!asked) std::this_thread::yield();
  CHECK_FALSE(connection->closed());
  const auto reply = connection->perform(get());
  INFO(said(reply));
  REQUIRE(reply.ok());
  CHECK(reply.value().body == "ok");
  CHECK(peer.connections() == 1);
}

TEST_CASE("what comes unasked retires a connection, and is called what it is", "[http]") {
  const std::string closed = "the server closed the connection while it was idle";
  const std::string unasked = "the server sent something that nobody had asked for";
  struct Example {
    const char* what;
    int tls;  // its version; 0: none
    std::string text;
    std::function<void(Talk&)> unasked;
  };
  const Example examples[] = {
      {"an end", 0, closed, [](Talk&) {}},
      {"a reply", 0, unasked,
       [](Talk& talk) { talk.send(kOk + "Content-Length: 0\r\n\r\n"), talk.await_close(); }},
      {"an end of TLS", TLS1_2_VERSION, closed,
       [](Talk& talk) { SSL_shutdown(talk.ssl()), talk.await_close(); }},
      {"a reply through TLS", TLS1_3_VERSION, unasked,
       [](Talk& talk) { talk.send(kOk + "Content-Length: 0\r\n\r\n"), talk.await_close(); }},
      {"a session ticket", TLS1_3_VERSION, unasked,
       [](Talk& talk) {
         SSL_new_session_ticket(talk.ssl());
         SSL_do_handshake(talk.ssl());
         talk.await_close();
       }},
      {"a new key", TLS1_3_VERSION, unasked,
       [](Talk& talk) {
         SSL_key_update(talk.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
         SSL_do_handshake(talk.ssl());
         talk.await_close();
       }},
  };
  for (const Example& example : examples) {
    INFO(example.what);
    const Peer::Tls tls{example.tls, nullptr};
    const Peer peer(
        [&](Talk& talk) {
          if (talk.request().empty()) return;
          talk.send(kOk + "Content-Length: 0\r\n\r\n");
          // When the reply has been read.
          if (talk.request().empty()) return;
          talk.send(kOk + "Content-Length: 0\r\n\r\n");
          example.unasked(talk);
        },
        example.tls != 0 ? &tls : nullptr);
    const auto connection = connect(origin_of(peer, example.tls != 0 ? "https" : "http"));
    REQUIRE(connection->perform(get()).ok());
    REQUIRE(connection->perform(get()).ok());
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!connection->closed() && std::chrono::steady_clock::now() < give_up)
      std::this_thread::yield();
    REQUIRE(connection->closed());
    CHECK(connection->why_closed().text().find(example.text) == 0);
    CHECK(connection->why_closed().kind() == Kind::kLost);
  }
}

TEST_CASE("at a fence that is closed nothing is sent") {
  Peer peer([](Talk& talk) { CHECK(talk.request().empty()); });
  upload::testing::FakeClock clock;
  Fence fence(clock);
  Request request = get();
  request.fence = &fence;
  const auto reply = ask(peer, request);
  REQUIRE_FALSE(reply.ok());
  CHECK(reply.status().kind() == Kind::kClaimLost);
}

// The server takes nothing, so that the kernel has a part of the body, and libcurl the rest.
TEST_CASE("a request that is under way at its fence is cut off, and the kernel forgets it") {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  REQUIRE(bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0);
  REQUIRE(listen(listener, 1) == 0);
  REQUIRE(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  upload::testing::FakeClock clock;
  Fence fence(clock);
  REQUIRE(fence.open_until(clock.boot_now() + std::chrono::seconds(10)));
  int server = -1;
  std::thread accepts([&] {
    server = accept(listener, nullptr, nullptr);
    pollfd look = {server, POLLIN, 0};
    poll(&look, 1, 20000);
    clock.suspend(std::chrono::seconds(10));
  });
  auto origin = std::make_shared<Origin>();
  origin->url =
      parse_url("http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/t").value();
  Request request = get();
  request.method = Method::kPut;
  request.parts = {{nullptr, kEndless}};
  request.fence = &fence;
  const auto reply = connect(origin)->perform(request);
  accepts.join();
  REQUIRE_FALSE(reply.ok());
  CHECK(reply.status().kind() == Kind::kClaimLost);
  CHECK(has(reply, "the claim ran out before it was renewed"));
  // A reset, and no orderly end after what was in the buffer.
  pollfd look = {server, POLLRDHUP, 0};
  REQUIRE(poll(&look, 1, 20000) == 1);
  CHECK((look.revents & POLLERR) != 0);
  close(server);
  close(listener);
}
