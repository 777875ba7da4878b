// SPDX-License-Identifier: BSD-3-Clause
//
// Discovery over fake connections: what each answer to the probe makes of the volume's
// durability, when there is a probe at all, and what is said about it.

#include "volume/discover.h"

#include <string>
#include <vector>

#include "base/log.h"
#include "base/redact.h"
#include "catch.h"
#include "fakes.h"
#include "http/credentials.h"

using upload::Kind;
using upload::Result;
using upload::Status;
using upload::target::Durability;
using upload::testing::FakeServer;
using upload::volume::Discovery;
namespace http = upload::http;
namespace target = upload::target;

namespace {

std::vector<std::string> warnings;

// A server with every feature, that answers the probe as the test says.
struct Fixture {
  Fixture() {
    warnings.clear();
    upload::log::set_sinks({[](const char*) {},
                            [](const char* line) { warnings.emplace_back(line); },
                            [](const char*) {}});
    server.on_request([this](const http::Request& request) { return answer(request); });
  }
  ~Fixture() {
    upload::log::set_sinks({[](const char*) {}, [](const char*) {}, [](const char*) {}});
  }

  Result<http::Reply> answer(const http::Request& request) {
    switch (request.method) {
      case http::Method::kPost: return probe;
      case http::Method::kOptions: return options;
      default: return read(request);
    }
  }

  static http::Reply read(const http::Request& request) {
    http::Reply reply = FakeServer::ok(206);
    reply.headers.set("Content-Range", "bytes 0-0/1048576");
    reply.sunk = request.sink.size();
    return reply;
  }

  static http::Reply reply(int status, bool last) {
    http::Reply reply = FakeServer::ok(status);
    reply.last = last;
    return reply;
  }

  static http::Reply options_reply(const std::string& features) {
    http::Reply reply = FakeServer::ok();
    reply.body = R"({"features":[)" + features + R"(],"max_readers":8,"max_writers":6,)" +
                 R"("unix_socket":"/socket"})";
    return reply;
  }

  target::Capabilities discover(std::optional<bool> direct = std::nullopt,
                                bool auto_socket = false) {
    http::Origin origin;
    origin.url = http::parse_url("https://host/images/a-secret").value();
    origin.make_credentials = [] {
      return std::make_shared<http::FixedCredentials>(
          std::make_shared<http::FixedCredential>("Bearer a-token"));
    };
    origin.headers = {"X-Key: another"};
    const auto imageio = target::make_target("imageio", origin.url);
    // A connection each, all open until they are closed.
    const http::Connector connector = [this](std::shared_ptr<const http::Origin> to,
                                             upload::ConnectionId, http::ConnectionEvents) {
      sockets.push_back(to->unix_socket);
      credentials.push_back(to->cert_pem + to->key_pem);
      if (to->make_credentials)
        credentials.back() +=
            upload::testing::shown_by(*to->make_credentials()->current("").value());
      for (const std::string& header : to->headers) credentials.back() += header;
      alive_before.push_back(server.connections_alive());
      return server.factory()(sockets.size(), {[] {}, [] {}});
    };
    const auto found =
        upload::volume::discover(*imageio, origin, connector, auto_socket, std::nullopt, direct);
    INFO(found.status().text());
    REQUIRE(found.ok());
    CHECK(found.value().size == 1048576);
    return found.value().capabilities;
  }

  size_t probes() const {
    size_t count = 0;
    for (const auto& sent : server.sent()) count += sent.what == "POST" ? 1 : 0;
    return count;
  }

  // Not direct: one line says so, with that text in it, and the rest is as the server says.
  void check_not_direct(const target::Capabilities& found, const std::string& text) const {
    CHECK(found.traits.durability == Durability::kOnReply);
    CHECK(found.can_zero);
    CHECK(found.can_extents);
    CHECK(found.max_readers == 8);
    CHECK(found.max_writers == 6);
    REQUIRE(warnings.size() == 1);
    INFO(warnings[0]);
    CHECK(warnings[0].find(text) != std::string::npos);
    CHECK(warnings[0].find("direct=") != std::string::npos);
    CHECK(warnings[0].find("a-secret") == std::string::npos);
    CHECK(warnings[0].find('\n') == std::string::npos);
  }

  Result<http::Reply> probe = reply(405, true);
  http::Reply options = options_reply(R"("zero","flush","extents")");
  FakeServer server;
  std::vector<std::string> sockets;      // of each connection; empty: TCP
  std::vector<std::string> credentials;  // of each connection
  std::vector<size_t> alive_before;      // connections, when each was made
};

}  // namespace

TEST_CASE("a unix socket gets nothing secret before it says that it is the server's",
          "[discover]") {
  // What the socket answers to a question without ticket and credentials, and whether it
  // is used then.
  const struct {
    Result<http::Reply> reply;
    const char* text;
  } examples[] = {
      {Fixture::options_reply(R"("zero")"), nullptr},
      {FakeServer::ok(404), "HTTP status 404"},
      {FakeServer::ok(204), "HTTP status 204"},
      {FakeServer::ok(405), "HTTP status 405"},
      {FakeServer::ok(200), "not a JSON object"},
      {[] {
         http::Reply other = FakeServer::ok();
         other.body = R"({"features":["zero"],"unix_socket":"/another"})";
         return other;
       }(),
       "does not name the socket"},
      {Status(Kind::kConnect, "refused"), "refused"},
  };
  for (const auto& example : examples) {
    Fixture f;
    f.server.on_request([&](const http::Request& request) -> Result<http::Reply> {
      if (request.target.find("a-secret") != std::string::npos) return f.answer(request);
      CHECK(request.target == "/images/*");
      CHECK(request.method == http::Method::kOptions);
      CHECK(f.credentials.back() == "");
      return example.reply;
    });
    f.discover(std::nullopt, true);
    REQUIRE(f.sockets.size() >= 2);
    CHECK(f.sockets[0] == "");
    CHECK(f.sockets[1] == "/socket");
    const bool used = std::count(f.sockets.begin(), f.sockets.end(), "/socket") > 1;
    CHECK(used == (example.text == nullptr));
    CHECK(warnings.size() == (used ? 0 : 1));
    if (!used) CHECK(warnings[0].find(example.text) != std::string::npos);
  }
}

TEST_CASE(
    "a unix socket without an absolute name, with hidden characters or with a secret in it "
    "is not tried",
    "[discover]") {
  upload::forget_secrets();
  upload::register_secret("short");
  for (const std::string name : {"relative", "./socket", "../socket", "/a\\nerror: forged",
                                 "/\\u001b[2J", "/\\u202eb", "/run/sh%6frt"}) {
    Fixture f;
    f.options.body = R"({"features":["flush","zero","extents"],"max_readers":8,"max_writers":6,)"
                     R"("unix_socket":")" +
                     name + R"("})";
    f.discover(std::nullopt, true);
    CHECK(std::count(f.sockets.begin(), f.sockets.end(), "") ==
          static_cast<std::ptrdiff_t>(f.sockets.size()));
    REQUIRE(warnings.size() == 1);
    CHECK(warnings[0].find("it must be an absolute path or @NAME") != std::string::npos);
    CHECK(warnings[0].find('\n') == std::string::npos);
    CHECK(warnings[0].find("/run/") == std::string::npos);
  }
  upload::forget_secrets();
}

TEST_CASE("a server that refuses the probe and closes is direct", "[discover]") {
  Fixture f;
  const target::Capabilities found = f.discover();
  CHECK(found.traits.durability == Durability::kOnFlush);
  CHECK(f.probes() == 1);
  CHECK(warnings.empty());
}

TEST_CASE("the probe has one byte, and a connection of its own, the only one then",
          "[discover]") {
  Fixture f;
  f.discover();
  const auto sent = f.server.sent();
  REQUIRE(sent.size() == 3);
  CHECK(sent[0].what == "OPTIONS");
  CHECK(sent[0].connection == sent[1].connection);
  CHECK(sent[2].what == "POST");
  CHECK(sent[2].target == "/images/a-secret");
  CHECK(sent[2].connection != sent[0].connection);
  CHECK(f.alive_before == std::vector<size_t>{0, 0});
  CHECK(f.server.connections_alive() == 0);
}

TEST_CASE("a connection that stays open after the probe is a reverse proxy's", "[discover]") {
  Fixture f;
  f.probe = Fixture::reply(405, false);
  f.check_not_direct(f.discover(), "there is a reverse proxy in front of the server");
}

TEST_CASE("a probe that is answered with anything but 405 proves nothing", "[discover]") {
  for (const bool last : {true, false}) {
    for (const int status :
         {200, 201, 204, 206, 301, 400, 401, 403, 404, 407, 413, 429, 500, 501, 502, 503, 504}) {
      INFO(status << (last ? ", closed" : ", kept"));
      Fixture f;
      f.probe = Fixture::reply(status, last);
      f.check_not_direct(f.discover(), "it is not known whether there is a reverse proxy");
      CHECK(warnings[0].find("HTTP status " + std::to_string(status)) != std::string::npos);
    }
  }
}

TEST_CASE("a probe without a reply proves nothing, and does not end the start", "[discover]") {
  for (const Kind kind : {Kind::kLost, Kind::kConnect, Kind::kMalformed}) {
    Fixture f;
    f.probe = Status(kind, "nobody answers");
    f.check_not_direct(f.discover(), "in front of the server (nobody answers)");
    CHECK(f.probes() == 1);
  }
}

TEST_CASE("where every reply closes a close proves nothing, and nothing is asked", "[discover]") {
  Fixture f;
  f.options.last = true;
  http::Origin origin;
  origin.url = http::parse_url("https://host/images/a-secret").value();
  const auto imageio = target::make_target("imageio", origin.url);
  size_t made = 0;
  const auto found = upload::volume::discover(
      *imageio, origin,
      [&](std::shared_ptr<const http::Origin>, upload::ConnectionId, http::ConnectionEvents) {
        return f.server.factory()(++made, {[] {}, [] {}});
      },
      false, 1048576, std::nullopt);
  REQUIRE(found.ok());
  CHECK(f.probes() == 0);
  f.check_not_direct(found.value().capabilities, "the connection closes after every reply");
}

TEST_CASE("what the user says of the way is not asked, nor warned of", "[discover]") {
  for (const bool direct : {true, false}) {
    Fixture f;
    f.probe = Fixture::reply(405, !direct);  // the opposite
    const target::Capabilities found = f.discover(direct);
    CHECK(found.traits.durability == (direct ? Durability::kOnFlush : Durability::kOnReply));
    CHECK(found.max_writers == 6);
    CHECK(f.probes() == 0);
    CHECK(warnings.empty());
  }
}

TEST_CASE("without flush at the server there is nothing to ask", "[discover]") {
  for (const std::optional<bool> direct : {std::optional<bool>(), std::optional(true)}) {
    Fixture f;
    f.options = Fixture::options_reply(R"("zero")");
    CHECK(f.discover(direct).traits.durability == Durability::kOnReply);
    CHECK(f.probes() == 0);
    CHECK(warnings.empty());
  }
}

TEST_CASE("a ticket for reading only is not probed", "[discover]") {
  Fixture f;
  f.options.headers.set("Allow", "OPTIONS,GET");
  CHECK_FALSE(f.discover().can_write);
  CHECK(f.probes() == 0);
  CHECK(warnings.empty());
}

TEST_CASE("the probe goes the way that the volume will use", "[discover]") {
  Fixture f;
  CHECK(f.discover(std::nullopt, true).traits.durability == Durability::kOnFlush);
  REQUIRE(f.sockets.size() == 4);
  CHECK(f.sockets[0].empty());
  CHECK(f.sockets[1] == "/socket");
  CHECK(f.sockets[2] == "/socket");
  CHECK(f.sockets[3] == "/socket");
}
