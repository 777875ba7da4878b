// SPDX-License-Identifier: BSD-3-Clause
//
// What the imageio protocol sends, and what its replies mean.

#include "target/target.h"

#include <algorithm>

#include "catch.h"
#include "target/extent_list.h"
#include "target/reply.h"

using upload::ByteRange;
using upload::Kind;
using namespace upload::target;
namespace http = upload::http;

namespace {

std::unique_ptr<Target> imageio() {
  return make_target("imageio", http::parse_url("https://host/images/t").value());
}

http::Reply reply(int status, std::string body = "") {
  http::Reply reply;
  reply.status = status;
  reply.body = std::move(body);
  return reply;
}

// The list that the reply ends; it has one page.
upload::Result<std::vector<Extent>> end_list(const http::Reply& reply,
                                             upload::target::ExtentsReader& reader) {
  if (upload::Status status = imageio()->check_extents(reply); !status.ok()) return status;
  const auto more = reader.finish_page(reply);
  if (!more.ok()) return more.status();
  CHECK_FALSE(more.value());
  return reader.take_extents();
}

// As a connection passes it on: first whole, then in pieces of each length.
upload::Result<std::vector<Extent>> read_extents(const std::string& text,
                                                 uint64_t size = uint64_t{1} << 40) {
  const auto whole = imageio()->extents_reader(size);
  const auto extents = end_list(reply(200, text), *whole);
  for (size_t length = 1; length < 20; ++length) {
    const auto pieces = imageio()->extents_reader(size);
    upload::Status status;
    for (size_t at = 0; at < text.size() && status.ok(); at += length)
      status = pieces->take(std::string_view(text).substr(at, length));
    if (status.ok()) status = end_list(reply(200), *pieces).status();
    CHECK(status.text() == extents.status().text());
  }
  return extents;
}

bool has_header(const http::Request& request, const std::string& line) {
  return std::find(request.headers.begin(), request.headers.end(), line) != request.headers.end();
}

}  // namespace

TEST_CASE("a write is a PUT with a range, and says whether to flush", "[target]") {
  const char data[4096] = {};
  const http::Request request = imageio()->write({8192, 4096}, {{data, 4096}}, false);
  CHECK(request.method == http::Method::kPut);
  CHECK(request.target == "/images/t?flush=n");
  CHECK(has_header(request, "Content-Range: bytes 8192-12287/*"));
  REQUIRE(request.parts.size() == 1);
  CHECK(request.parts[0].data == data);
  CHECK(imageio()->write({0, 1}, {{data, 1}}, true).target == "/images/t?flush=y");
}

TEST_CASE("zero and flush are PATCHes in JSON", "[target]") {
  const http::Request zero = imageio()->zero({65536, uint64_t{5} << 30}, true);
  CHECK(zero.method == http::Method::kPatch);
  CHECK(zero.target == "/images/t");
  CHECK(has_header(zero, "Content-Type: application/json"));
  CHECK(zero.text == R"({"flush":true,"offset":65536,"op":"zero","size":5368709120})");
  CHECK(imageio()->flush().text == R"({"op":"flush"})");
}

TEST_CASE("the probe is a POST of one byte, which only 405 and a close answer well", "[target]") {
  const auto probe = imageio()->probe_direct();
  REQUIRE(probe);
  CHECK(probe->method == http::Method::kPost);
  CHECK(probe->target == "/images/t");
  CHECK(probe->text.size() == 1);
  http::Reply refused = reply(405);
  CHECK_FALSE(imageio()->read_direct(refused).value());
  refused.last = true;
  CHECK(imageio()->read_direct(refused).value());
  for (const int status : {200, 201, 403, 404, 500, 501}) {
    INFO(status);
    http::Reply other = reply(status);
    CHECK_FALSE(imageio()->read_direct(other).ok());
    other.last = true;
    CHECK_FALSE(imageio()->read_direct(other).ok());
  }
}

TEST_CASE("a read asks for the last byte inclusively, into the caller's memory", "[target]") {
  std::byte sink[512];
  const http::Request request = imageio()->read({1024, 512}, sink);
  CHECK(request.method == http::Method::kGet);
  CHECK(has_header(request, "Range: bytes=1024-1535"));
  CHECK(request.sink.data() == sink);
  CHECK(request.sink.size() == 512);
}

TEST_CASE("OPTIONS tells features, limits, socket and whether writing is allowed", "[target]") {
  http::Reply full =
      reply(200, R"({"features":["checksum","extents","flush","zero","new"],"max_readers":8,)"
                 R"("max_writers":6,"unix_socket":"\u0000/org/ovirt","more":{"a":[1]}})");
  full.headers.set("Allow", "OPTIONS,GET,PUT,PATCH");
  const auto options = imageio()->read_offer(full);
  REQUIRE(options.ok());
  CHECK(options.value().traits.durability == Durability::kOnFlush);
  CHECK(options.value().can_zero);
  CHECK(options.value().can_extents);
  CHECK(options.value().can_write);
  CHECK(options.value().max_readers == 8);
  CHECK(options.value().max_writers == 6);
  CHECK(options.value().unix_socket == "@/org/ovirt");
  full.headers.set("Allow", "OPTIONS,GET");
  CHECK_FALSE(imageio()->read_offer(full).value().can_write);
}

TEST_CASE("limits that OPTIONS leaves out are 1", "[target]") {
  const auto options = imageio()->read_offer(reply(200, R"({"features":[]})"));
  REQUIRE(options.ok());
  CHECK(options.value().max_readers == 1);
  CHECK(options.value().max_writers == 1);
  CHECK(options.value().traits.durability == Durability::kOnReply);
  CHECK(options.value().unix_socket.empty());
}

TEST_CASE("servers from before OPTIONS have no features and one connection", "[target]") {
  for (const int status : {405, 204}) {
    const auto options = imageio()->read_offer(reply(status));
    REQUIRE(options.ok());
    CHECK(options.value().traits.durability == Durability::kOnReply);
    CHECK_FALSE(options.value().can_zero);
    CHECK(options.value().max_writers == 1);
    CHECK(options.value().can_write);
  }
}

TEST_CASE("OPTIONS of another shape make no sense", "[target]") {
  for (const char* body :
       {"", "null", "[]", "{", "{}", R"({"features":"zero"})", R"({"features":{}})",
        R"({"features":[],"max_writers":0})", R"({"features":[],"max_writers":-1})",
        R"({"features":[],"max_readers":"8"})", R"({"features":[],"max_readers":1.5})",
        R"({"features":[],"unix_socket":7})", R"({"features":[],"unix_socket":"/a\u0000b"})",
        "\xff\xfe"}) {
    INFO(body);
    const auto options = imageio()->read_offer(reply(200, body));
    REQUIRE_FALSE(options.ok());
    CHECK(options.status().kind() == Kind::kMalformed);
  }
}

TEST_CASE("a read is good only as 206 with exactly the range that was asked for", "[target]") {
  const ByteRange range{1024, 512};
  http::Reply good = reply(206);
  good.headers.set("Content-Range", "bytes 1024-1535/1048576");
  good.sunk = 512;
  CHECK(imageio()->check_read(good, range).ok());

  http::Reply wrong = good;
  for (const char* text : {"bytes 0-511/1048576", "bytes 1024-1534/1048576", "", "bytes */5",
                           "bytes 1024-1535", "bytes 1535-1024/*", "bytes -1-5/*"}) {
    INFO(text);
    wrong.headers.set("Content-Range", text);
    CHECK(imageio()->check_read(wrong, range).kind() == Kind::kMalformed);
  }
  http::Reply cut = good;
  cut.sunk = 511;
  CHECK(imageio()->check_read(cut, range).kind() == Kind::kMalformed);
  http::Reply whole = good;
  whole.status = 200;
  CHECK(imageio()->check_read(whole, range).kind() == Kind::kMalformed);
}

TEST_CASE("extents are read in order", "[target]") {
  const auto extents = read_extents(R"([{"start":0,"length":65536,"zero":false,"hole":false},)"
                                    R"({"start":65536,"length":1048576,"zero":true,"hole":true},)"
                                    R"({"start":1114112,"length":4096,"zero":true}])");
  REQUIRE(extents.ok());
  REQUIRE(extents.value().size() == 3);
  CHECK(extents.value()[1].range == ByteRange{65536, 1048576});
  CHECK(extents.value()[1].zero);
  CHECK(extents.value()[1].hole);
  CHECK_FALSE(extents.value()[2].hole);
}

TEST_CASE("extents of another shape make no sense", "[target]") {
  for (const char* body :
       {"",
        "{}",
        "[1]",
        "[{}]",
        R"([{"start":0,"length":1}])",
        R"([{"start":0,"length":0,"zero":true}])",
        R"([{"start":1,"length":1,"zero":true}])",
        R"([{"start":0,"length":-5,"zero":true}])",
        R"([{"start":0,"length":1,"zero":1}])",
        R"([{"start":0,"length":1,"zero":true,"hole":"yes"}])",
        R"([{"start":0,"length":8,"zero":true},{"start":4,"length":8,"zero":true}])",
        R"([{"start":0,"length":8,"zero":true},{"start":9,"length":8,"zero":true}])",
        R"([{"start":0,"length":9223372036854775807,"zero":true},)"
        R"({"start":9223372036854775807,"length":9223372036854775807,"zero":true}])",
        R"([{"start":0,"length":18446744073709551615,"zero":true}])",
        "[[[[[[[[",
        "[",
        R"([{"start":0,"length":512,"zero":true},])",
        R"([,{"start":0,"length":512,"zero":true}])",
        R"([{"start":0,"length":512,"zero":true} {"start":512,"length":512,"zero":true}])",
        R"([{"start":0,"length":512,"zero":true}]])",
        R"([{"start":0,"length":512,"zero":true}] x)",
        R"([{"start":0,"length":512,"zero":true)",
        R"([{"start":0,"length":512,"zero":true])",
        R"([{"start":0,"length":512,"zero":true}}])",
        R"([{"start":0,"length":512,"zero":"}]"}])"}) {
    INFO(body);
    const auto extents = read_extents(body);
    REQUIRE_FALSE(extents.ok());
    CHECK(extents.status().kind() == Kind::kMalformed);
  }
}

TEST_CASE("extents may have blanks between, and members that nobody knows", "[target]") {
  const auto extents = read_extents(
      " \r\n[ {\n\"start\" : 0, \"length\":512, \"new\": {\"a\": [1, \"}]\\\"\", {}]}, "
      "\"zero\": true}\t,\n{\"start\":512,\"length\":512,\"zero\":false} ] \n");
  INFO(extents.status().text());
  REQUIRE(extents.ok());
  CHECK(extents.value().size() == 2);
  REQUIRE(read_extents("[]").ok());
  REQUIRE(read_extents(" [ ] ").ok());
}

TEST_CASE("extents without an end fail at their first wrong character, or soon", "[target]") {
  const auto fails_after = [](const std::string& begin, const std::string& endless) {
    const auto reader = imageio()->extents_reader(1 << 20);
    if (!reader->take(begin).ok()) return size_t{0};
    for (size_t taken = 0; taken < 1000000; taken += endless.size())
      if (!reader->take(endless).ok()) return taken + endless.size();
    return SIZE_MAX;
  };
  CHECK(fails_after("[", "[") == 1);
  CHECK(fails_after("[", "1") == 1);
  CHECK(fails_after("[{\"a\":", "[") <= 4097);
  CHECK(fails_after("[{\"a\":", "{\"a\":") <= 4097);
  CHECK(fails_after("[{\"a\":\"", "x") <= 4097);
  CHECK(fails_after("[{\"a\":", " ") <= 4097);
  CHECK(fails_after("", " ") <= 4097);
  CHECK(fails_after("[", " ") <= 4097);
}

TEST_CASE("a disk has no more extents than blocks", "[target]") {
  std::string text = "[";
  for (int i = 0; i < 10; ++i)
    text += (i == 0 ? "" : ",") + std::string("{\"start\":") + std::to_string(i) +
            ",\"length\":1,\"zero\":true}";
  CHECK(read_extents(text + "]", 512 * 9).ok());
  CHECK(read_extents(text + "]", 512 * 8).status().text() ==
        "the server's reply makes no sense: more extents than the disk has blocks");
}

TEST_CASE("a disk with more extents than are kept loses its shortest zeroes first", "[target]") {
  ExtentList list(8);
  uint64_t at = 0;
  const auto add = [&](uint64_t length, bool zero, bool hole) {
    list.add({{at, length}, zero, hole});
    at += length;
  };
  add(1 << 20, true, true);
  for (int i = 0; i < 100; ++i) {
    add(4096, false, false);
    add(4096, true, i % 2 == 0);
  }
  add(1 << 20, true, false);
  CHECK(list.end() == at);
  const std::vector<Extent> extents = list.take();
  REQUIRE(extents.size() <= 8);
  CHECK(extents.front().range == ByteRange{0, 1 << 20});
  CHECK(extents.front().hole);
  CHECK(extents.back().zero);
  CHECK(extents.back().range == ByteRange{at - (1 << 20), 1 << 20});
  uint64_t next = 0;
  for (const Extent& extent : extents) {
    CHECK(extent.range.offset == next);
    next = extent.range.end();
  }
  CHECK(next == at);
}

TEST_CASE("of any disk no zero is invented, and the list is bounded", "[target]") {
  uint64_t state = 1;
  const auto random = [&](uint64_t below) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (state >> 33) % below;
  };
  for (int round = 0; round < 50; ++round) {
    ExtentList list(16);
    std::vector<Extent> all;
    uint64_t at = 0;
    for (uint64_t i = 0, n = 1 + random(300); i < n; ++i) {
      all.push_back({{at, (1 + random(8)) << random(24)}, random(2) == 0, random(2) == 0});
      at = all.back().range.end();
      list.add(all.back());
    }
    const std::vector<Extent> kept = list.take();
    CHECK(kept.size() <= 16);
    REQUIRE(kept.back().range.end() == at);
    // Each that is kept as zero or hole is so wherever it is.
    for (const Extent& extent : all)
      for (const Extent& other : kept)
        if (other.range.offset < extent.range.end() && extent.range.offset < other.range.end()) {
          CHECK((!other.zero || extent.zero));
          CHECK((!other.hole || extent.hole));
        }
  }
}

TEST_CASE("each status has its kind", "[reply]") {
  const std::pair<int, Kind> rows[] = {
      {400, Kind::kRejected},    {401, Kind::kUnauthorized}, {403, Kind::kDenied},
      {404, Kind::kDenied},      {405, Kind::kRejected},     {408, Kind::kUnavailable},
      {410, Kind::kDenied},      {413, Kind::kNoSpace},      {416, Kind::kRejected},
      {418, Kind::kRejected},    {429, Kind::kUnavailable},  {500, Kind::kServerError},
      {501, Kind::kServerError}, {502, Kind::kGateway},      {503, Kind::kUnavailable},
      {504, Kind::kGateway},     {507, Kind::kNoSpace},      {201, Kind::kMalformed},
      {302, Kind::kMalformed},   {999, Kind::kServerError}};
  for (const auto& [status, kind] : rows) {
    INFO(status);
    CHECK(classify(reply(status), 200).kind() == kind);
    CHECK(classify(reply(status), 200).text().find(std::to_string(status)) != std::string::npos);
  }
  CHECK(classify(reply(200), 200).ok());
}

TEST_CASE("only a status about a ticket blames the ticket", "[reply]") {
  for (const int status : {403, 410}) {
    INFO(status);
    CHECK(classify(reply(status), 200).text() ==
          "HTTP status " + std::to_string(status) +
              ": the ticket expired, was cancelled or does not allow this");
  }
  CHECK(classify(reply(404, "No handler for '/disk'"), 200).text() ==
        "HTTP status 404: no such image at this URL: No handler for '/disk'");
}

TEST_CASE("an error shows the first 200 bytes of the server's text, on one line", "[reply]") {
  const upload::Status status =
      classify(reply(500, "first\nsecond\x1b[2J" + std::string(500, 'x') + "END"), 200);
  CHECK(status.text().find("first second") != std::string::npos);
  CHECK(status.text().find('\n') == std::string::npos);
  CHECK(status.text().find('\x1b') == std::string::npos);
  CHECK(status.text().find("END") == std::string::npos);
  CHECK(status.text().find(std::string(150, 'x')) != std::string::npos);
}

TEST_CASE("an unknown target has no row", "[target]") {
  CHECK(make_target("nonsense", {}) == nullptr);
  CHECK(upload::target::is_target("webdav"));
  CHECK(upload::target::target_names() == "imageio, azure, azure-disk, webdav");
}

TEST_CASE("which target a URL or a reply tells of", "[target]") {
  using upload::target::name_for;
  const auto url = [](const char* text) { return http::parse_url(text).value(); };
  CHECK(name_for(url("https://host:54322/images/ticket")) == "imageio");
  CHECK(name_for(url("https://me.blob.core.windows.net/disks/one")) == "azure");
  CHECK(name_for(url("https://md-impexp-1.z1.blob.storage.azure.net/c/d")) == "azure");
  CHECK(name_for(url("https://blob.example.com/c/d")).empty());
  http::Reply answer = reply(200);
  CHECK(upload::target::name_by(answer) == "imageio");
  answer.headers.set("x-ms-blob-type", "PageBlob");
  CHECK(upload::target::name_by(answer) == "azure");
}

TEST_CASE("what a target has not is refused by the name of its parameter", "[target]") {
  using upload::target::check_options;
  CHECK(check_options("imageio", {.create = true}).text() ==
        "create=true: target=imageio can't create a disk");
  CHECK(check_options("webdav", {.checksum = true}).text() ==
        "checksum=true: target=webdav takes no checksums");
  CHECK(check_options("azure", {.create = true, .checksum = true}).ok());
}
