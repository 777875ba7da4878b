// SPDX-License-Identifier: BSD-3-Clause
//
// Tokens as token endpoints and commands give them, and all that they may give in their place.

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>

#include "base/redact.h"
#include "catch.h"
#include "fakes.h"
#include "fixture/temporary_directory.h"
#include "login/token_request.h"
#include "login/token_script.h"

using namespace std::chrono_literals;
using upload::Duration;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::login::kLongestLife;
using upload::login::OauthClient;
using upload::login::read_token_lines;
using upload::login::read_token_reply;
using upload::login::Token;
using upload::login::TokenRequest;
using upload::login::TokenScript;
using upload::testing::FakeServer;
namespace http = upload::http;

namespace {

Result<Token> reply(const std::string& body, int status = 200) {
  upload::forget_secrets();
  http::Reply reply = FakeServer::ok(status);
  reply.body = body;
  return read_token_reply(reply);
}

std::string refused(const std::string& body, int status = 200) {
  const auto token = reply(body, status);
  REQUIRE_FALSE(token.ok());
  CHECK(token.status().kind() == Kind::kLogin);
  return token.status().text();
}

Result<Token> run(const std::string& command, Duration timeout = 20s) {
  upload::forget_secrets();
  return TokenScript(command, timeout).log_in();
}

std::string fails(const std::string& command, Duration timeout = 20s) {
  const auto token = run(command, timeout);
  REQUIRE_FALSE(token.ok());
  CHECK(token.status().kind() == Kind::kLogin);
  return token.status().text();
}

// What is sent to the token endpoint.
http::Request asked(const OauthClient& client) {
  FakeServer server;
  http::Request seen;
  server.on_request([&](const http::Request& request) {
    seen = request;
    http::Reply reply = FakeServer::ok();
    reply.body = R"({"access_token":"a.token"})";
    return reply;
  });
  auto origin = std::make_shared<http::Origin>();
  origin->url = http::parse_url("https://login/oauth/token?realm=x").value();
  TokenRequest request(origin, client,
                       [&](const std::shared_ptr<const http::Origin>&, upload::ConnectionId id,
                           const http::ConnectionEvents&) {
                         return server.factory()(id, {[] {}, [] {}});
                       });
  CHECK(request.log_in().value().text == "a.token");
  CHECK(server.connections_alive() == 0);
  return seen;
}

}  // namespace

// --- Token endpoints ------------------------------------------------------

TEST_CASE("a token comes with its life time, or without", "[token]") {
  CHECK(
      reply(R"({"access_token":"a.b-c","token_type":"Bearer","expires_in":3600})").value().life ==
      Duration(3600s));
  CHECK(reply(R"({"access_token":"a.b-c","expires_in":"60"})").value().life == Duration(60s));
  CHECK(reply(R"({"access_token":"a.b-c","expires_in":0.5})").value().life == Duration(500ms));
  const Token token = reply(R"({"access_token":"a.b-c","expires_in":null})").value();
  CHECK(token.text == "a.b-c");
  CHECK_FALSE(token.life);
}

TEST_CASE("ten years are as good as for ever, and more is no more", "[token]") {
  CHECK(reply(R"({"access_token":"a.long.token","expires_in":315360000})").value().life ==
        kLongestLife);
  CHECK(reply(R"({"access_token":"a.long.token","expires_in":1e300})").value().life ==
        kLongestLife);
  CHECK(reply(R"({"access_token":"a.long.token","expires_in":18446744073709551615})")
            .value()
            .life == kLongestLife);
}

TEST_CASE("what is no token is refused with a reason", "[token]") {
  CHECK(refused(R"({"access_token":"a.long.token","expires_in":0})") ==
        "the life time '0' is over when it begins");
  CHECK(refused(R"({"access_token":"a.long.token","expires_in":-5})") ==
        "the life time '-5' is over when it begins");
  CHECK(refused(R"({"access_token":"a.long.token","expires_in":"soon"})") ==
        "the life time 'soon' is not a number of seconds");
  CHECK(refused(R"({"access_token":"a.long.token","expires_in":[1]})") ==
        "the life time (expires_in) is not a number");
  CHECK(refused(R"({"access_token":"a.long.token","token_type":"mac"})") ==
        "the token's type (token_type) is not bearer");
  CHECK(refused(R"({"access_token":""})") == "the token is empty");
  CHECK(refused(R"({"access_token":17})") == "the token is empty");
  CHECK(refused(R"({"access_token":"a b"})").find("can't have") != std::string::npos);
  CHECK(refused("{\"access_token\":\"a\\r\\nX-Forged:1\"}").find("can't have") !=
        std::string::npos);
  CHECK(refused(R"({"access_token":")" + std::string(100000, 'x') + "\"}") ==
        "the token has 100000 bytes, more than the 65536 that it may have");
  CHECK(refused("{}") == "the reply has no access_token");
  CHECK(refused("<html>") == "the reply is not a JSON object");
  CHECK(refused("") == "the reply is not a JSON object");
  CHECK(refused("[1]") == "the reply is not a JSON object");
}

TEST_CASE("what an endpoint says of an error is passed on in one line", "[token]") {
  CHECK(refused(R"({"error":"invalid_grant","error_description":"wrong\npassword"})", 400) ==
        "HTTP status 400: invalid_grant (wrong password)");
  CHECK(refused(R"({"error":"access_denied"})") ==
        "the reply has no access_token: access_denied");
  CHECK(refused("<html>\nNot here", 404) == "HTTP status 404: <html> Not here");
  CHECK(refused("", 503) == "HTTP status 503");
}

TEST_CASE("no token is shown, whatever else is wrong", "[token]") {
  const std::string token = "TOP.secret.token-123";
  for (const std::string& body :
       {R"({"access_token":")" + token + R"(","token_type":")" + token + "\"}",
        R"({"access_token":")" + token + R"(","expires_in":")" + token + "\"}",
        R"({"refresh_token":")" + token + R"(","error":"no )" + token + "\"}",
        R"({"access_token":")" + token + R"( )", "<html>your token: " + token})
    for (const int status : {200, 201, 400}) {
      http::Reply answer = FakeServer::ok(status);
      answer.body = body;
      const auto read = read_token_reply(answer);
      INFO(body);
      CHECK_FALSE(read.ok());
      INFO(read.status().text());
      CHECK(read.status().text().find("secret") == std::string::npos);
    }
  for (const std::string& command :
       {"echo " + token + "; echo bad " + token + " >&2; exit 3", "echo; echo " + token,
        "echo first-token; echo " + token, "echo a; echo 1; echo " + token}) {
    INFO(command);
    CHECK(fails(command).find("secret") == std::string::npos);
  }
  upload::forget_secrets();
}

TEST_CASE("a client asks with its secret in the header, a user with his in the body", "[token]") {
  const http::Request client = asked({"me:1", "a&b", "", "", "read write"});
  CHECK(client.target == "/oauth/token?realm=x");
  CHECK(client.text == "grant_type=client_credentials&scope=read%20write");
  CHECK(client.authorization == "Basic " + upload::base64("me%3A1:a%26b"));
  const http::Request user = asked({"", "", "joe@x", "p&w=1", ""});
  CHECK(user.text == "grant_type=password&username=joe%40x&password=p%26w%3D1");
  CHECK(user.authorization.empty());
  const http::Request both = asked({"app", "", "joe", "pw", ""});
  CHECK(both.text == "grant_type=password&username=joe&password=pw&client_id=app");
  const http::Request all = asked({"app", "s", "joe", "pw", ""});
  CHECK(all.text == "grant_type=password&username=joe&password=pw");
  CHECK(all.authorization == "Basic " + upload::base64("app:s"));
}

// --- Commands -------------------------------------------------------------

TEST_CASE("a command prints a token, and perhaps its life time", "[token]") {
  CHECK(run("echo a.token").value().text == "a.token");
  CHECK_FALSE(run("echo a.token").value().life);
  const Token token = run("printf 'a.token\\r\\n90\\n'").value();
  CHECK(token.text == "a.token");
  CHECK(token.life == Duration(90s));
  CHECK(run("printf a.token").value().text == "a.token");
}

TEST_CASE("a command that gives no token says why", "[token]") {
  CHECK(fails("true") == "token-script: it has printed no token");
  CHECK(fails("echo; echo 90") == "token-script: it has printed no token");
  CHECK(fails("exit 3") == "token-script: it has ended with status 3");
  CHECK(fails("echo a.long.token; echo one >&2; echo why >&2; exit 1") ==
        "token-script: it has ended with status 1: why");
  CHECK(fails("kill -9 $$") == "token-script: it was ended by signal 9");
  CHECK(fails("echo a token").find("token-script: its first line: the token has characters") ==
        0);
  CHECK(fails("echo a.long.token; echo soon") ==
        "token-script: its second line: the life time 'soon' is not a number of seconds");
  CHECK(fails("echo a.long.token; echo 9; echo more") ==
        "token-script: it has printed more than two lines");
  CHECK(fails("echo a.long.token; echo 0").find("is over when it begins") != std::string::npos);
  CHECK(fails("exec no-such-command-here").find("status 127") != std::string::npos);
}

TEST_CASE("a command that floods is ended", "[token]") {
  const upload::fixture::TemporaryDirectory directory;
  const std::string file = directory.path() + "/all";
  CHECK(fails("head -c 1000000 /dev/zero | tr '\\0' x; touch " + file) ==
        "token-script: it has printed more than 65636 bytes");
  CHECK(access(file.c_str(), F_OK) != 0);
  CHECK(fails("exec yes >&2", 300ms).find("has not ended within") != std::string::npos);
}

TEST_CASE("a command that hangs is ended with all that it has started", "[token]") {
  const upload::fixture::TemporaryDirectory directory;
  const std::string file = directory.path() + "/pid";
  CHECK(fails("echo t; sleep 1000 & echo $! >" + file + "; wait", 300ms) ==
        "token-script: it has not ended within 0 seconds (timeout=)");
  pid_t pid = 0;
  std::ifstream(file) >> pid;
  REQUIRE(pid > 0);
  // Until its new parent has seen its end.
  const auto until = std::chrono::steady_clock::now() + upload::testing::kTooLong;
  bool gone = false;
  while (!gone && std::chrono::steady_clock::now() < until) {
    std::string state;
    std::ifstream status("/proc/" + std::to_string(pid) + "/stat");
    std::string ignored;
    gone = !(status >> ignored >> ignored >> state) || state == "Z";
    std::this_thread::yield();
  }
  CHECK(gone);
}

TEST_CASE("the end does not wait for a command", "[token]") {
  const upload::fixture::TemporaryDirectory directory;
  const std::string file = directory.path() + "/begun";
  TokenScript script("touch " + file + "; sleep 1000", 1000s);
  std::thread login([&] {
    const auto token = script.log_in();
    CHECK(token.status().text() == "token-script: the plugin is shutting down");
  });
  while (access(file.c_str(), F_OK) != 0) std::this_thread::yield();
  script.stop();
  login.join();
  CHECK_FALSE(script.log_in().ok());
}

TEST_CASE("a command is run where nbdkit was started, with nothing of ours open", "[token]") {
  const upload::fixture::TemporaryDirectory directory;
  char* const before = get_current_dir_name();
  REQUIRE(chdir(directory.path().c_str()) == 0);
  TokenScript script("basename $PWD; ls /proc/self/fd | wc -l >count", 20s);
  REQUIRE(chdir("/") == 0);
  CHECK(script.log_in().value().text == directory.path().substr(directory.path().rfind('/') + 1));
  int open = 0;
  std::ifstream(directory.path() + "/count") >> open;
  CHECK(open == 4);  // with the directory that ls reads
  REQUIRE(chdir(before) == 0);
  free(before);
}
