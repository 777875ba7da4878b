// SPDX-License-Identifier: BSD-3-Clause
//
// Files on a WebDAV server: what is asked, and the proof that the server takes parts of one.

#include "target/webdav.h"

#include <algorithm>
#include <cstring>

#include "catch.h"
#include "http/url.h"

namespace http = upload::http;
using upload::Kind;
using upload::Status;
using upload::target::Capabilities;
using upload::target::Durability;
using upload::target::make_webdav;

namespace {

std::unique_ptr<upload::target::Target> file(bool create = false) {
  return make_webdav(http::parse_url("https://dav.example.com/disks/one.img").value(),
                     {.create = create});
}

http::Reply reply(int status, const std::string& length = "") {
  http::Reply reply;
  reply.status = status;
  if (!length.empty()) reply.headers.set("Content-Length", length);
  return reply;
}

bool has(const http::Request& request, const std::string& line) {
  return std::find(request.headers.begin(), request.headers.end(), line) != request.headers.end();
}

// What a server does with the file that probes it.
enum class Server { kGood, kRefuses, kIgnores, kForbids };

struct Outcome {
  Status status;
  std::vector<std::string> asked;  // methods and, of the disk, its path
  bool removed = false;
};

Outcome prepare(Server server, bool missing) {
  const auto target = file(true);
  Capabilities offered;
  offered.missing = missing;
  const auto preparation = target->prepare(offered, 4096);
  Outcome outcome;
  while (const auto request = preparation->next()) {
    const bool disk = request->target == "/disks/one.img";
    outcome.asked.push_back(std::string(http::method_name(request->method)) +
                            (disk ? " disk" : ""));
    CHECK((disk || request->target.starts_with("/disks/one.img.probe-")));
    http::Reply answer = reply(204);
    if (server == Server::kForbids) answer.status = 403;
    // The file is there by the time that it is to be created.
    if (disk) {
      CHECK(has(*request, "If-None-Match: *"));
      answer.status = 412;
    }
    if (request->method == http::Method::kGet) {
      answer.status = 206;
      answer.sunk = 16;
      answer.headers.set("Content-Range", "bytes 0-15/16");
      memcpy(request->sink.data(),
             server == Server::kGood ? "0123part89abcdef" : "partpartpartpart", 16);
    }
    if (server == Server::kRefuses && has(*request, "Content-Range: bytes 4-7/*"))
      answer.status = 501;
    outcome.removed = outcome.removed || request->method == http::Method::kDelete;
    outcome.status = preparation->read(answer);
    if (!outcome.status.ok()) break;
  }
  if (const auto request = preparation->clean_up())
    outcome.removed = request->method == http::Method::kDelete;
  return outcome;
}

}  // namespace

TEST_CASE("a file on a WebDAV server promises nothing of when it is on disk", "[webdav]") {
  const auto offered = file()->read_offer(reply(200, "4096"));
  REQUIRE(offered.ok());
  CHECK(offered.value().size == 4096U);
  CHECK(offered.value().traits.durability == Durability::kUnknown);
  CHECK(offered.value().traits.persists);
  CHECK_FALSE(offered.value().can_zero);
  CHECK_FALSE(offered.value().can_extents);
  CHECK(file()->read_offer(reply(404)).status().text() ==
        "HTTP status 404: there is no such file; create=true makes one");
  CHECK(file(true)->read_offer(reply(404)).value().missing);
  CHECK(file()->read_offer(reply(200)).status().kind() == Kind::kMalformed);
}

TEST_CASE("data are put as a part of the file", "[webdav]") {
  const http::Request write = file()->write({512, 4}, {{"data", 4}}, true);
  CHECK(write.method == http::Method::kPut);
  CHECK(write.target == "/disks/one.img");
  CHECK(has(write, "Content-Range: bytes 512-515/*"));
  CHECK(file()->check_change(reply(204)).ok());
  // A file that is made anew has lost what was in it.
  CHECK(file()->check_change(reply(201)).kind() == Kind::kDenied);
  CHECK(file()->check_change(reply(200)).kind() == Kind::kMalformed);
}

TEST_CASE("a server that takes parts of a file is found to, beside the disk", "[webdav]") {
  const Outcome there = prepare(Server::kGood, false);
  CHECK(there.status.ok());
  CHECK(there.asked == std::vector<std::string>{"PUT", "PUT", "GET", "DELETE"});
  CHECK(there.removed);
  const Outcome missing = prepare(Server::kGood, true);
  CHECK(missing.status.ok());
  CHECK(missing.asked == std::vector<std::string>{"PUT", "PUT", "GET", "DELETE", "PUT disk"});
}

TEST_CASE("a server that does not take parts of a file never hears of the disk", "[webdav]") {
  const std::pair<Server, const char*> rows[] = {
      {Server::kRefuses,
       "the server does not take parts of a file (PUT with Content-Range): HTTP status 501"},
      {Server::kIgnores,
       "the server takes a part of a file for the whole (it ignores Content-Range), and would "
       "cut the disk off"},
      {Server::kForbids,
       "could not write a small file beside the disk, to find out whether the server takes parts "
       "of one: HTTP status 403: the ticket expired, was cancelled or does not allow this"}};
  for (const auto& [server, text] : rows) {
    const Outcome outcome = prepare(server, true);
    CHECK(outcome.status.text() == text);
    CHECK(outcome.removed);
    for (const std::string& asked : outcome.asked) CHECK(asked.find("disk") == asked.npos);
  }
}
