// SPDX-License-Identifier: BSD-3-Clause
//
// Page blobs: what is asked, how replies are read, signatures, lists of pages and the footer of a
// managed disk.

#include "target/azure.h"

#include <algorithm>
#include <string>

#include "base/redact.h"
#include "catch.h"
#include "fakes.h"
#include "http/url.h"
#include "target/page_list.h"
#include "target/shared_key.h"
#include "target/target.h"
#include "target/vhd_footer.h"

namespace http = upload::http;
using upload::ByteRange;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::target::Capabilities;
using upload::target::Durability;
using upload::target::Extent;
using upload::target::make_azure;
using upload::target::make_azure_disk;
using upload::target::PageList;

namespace {

http::Url url(const std::string& text) { return http::parse_url(text).value(); }

constexpr const char* kBlob =
    "https://me.blob.core.windows.net/disks/one?sv=2021-12-02&sp=rw&sig=x";

std::unique_ptr<upload::target::Target> blob(const std::string& text = kBlob,
                                             bool checksum = false, bool create = false) {
  return make_azure(url(text), {.create = create, .checksum = checksum});
}

http::Reply refusal(int status, const std::string& code) {
  http::Reply reply;
  reply.status = status;
  if (!code.empty()) reply.headers.set("x-ms-error-code", code);
  return reply;
}

http::Reply head(const std::string& length, const std::string& type = "PageBlob") {
  http::Reply reply;
  reply.status = 200;
  reply.headers.set("Content-Length", length);
  reply.headers.set("X-Ms-Blob-Type", type);
  return reply;
}

bool has(const http::Request& request, const std::string& line) {
  return std::find(request.headers.begin(), request.headers.end(), line) != request.headers.end();
}

Result<std::vector<Extent>> list_of(const std::string& text, uint64_t size, size_t step) {
  PageList list(size);
  for (size_t at = 0; at < text.size(); at += step)
    if (Status status = list.take(std::string_view(text).substr(at, step)); !status.ok())
      return status;
  const Result<bool> more = list.finish_page(http::Reply());
  if (!more.ok()) return more.status();
  CHECK_FALSE(more.value());
  return list.take_extents();
}

}  // namespace

TEST_CASE("a page blob takes whole pages, of at most 4 MiB, and its reply means stable",
          "[azure]") {
  const Result<Capabilities> offered = blob()->read_offer(head("1048576"));
  REQUIRE(offered.ok());
  CHECK(offered.value().size == 1048576U);
  CHECK(offered.value().traits.durability == Durability::kOnReply);
  CHECK(offered.value().traits.alignment == 512);
  CHECK(offered.value().traits.max_write == 4 << 20);
  CHECK(offered.value().traits.persists);
  CHECK(offered.value().can_write);
  CHECK(offered.value().can_zero);
  CHECK(offered.value().can_extents);
}

TEST_CASE("a blob of another type, and one that the SAS does not allow to read, are refused",
          "[azure]") {
  CHECK(blob()->read_offer(head("512", "BlockBlob")).status().text() ==
        "it is no page blob: x-ms-blob-type is 'BlockBlob', and must be PageBlob");
  CHECK(blob()->read_offer(head("many")).status().kind() == Kind::kMalformed);
  const Status status = blob("https://me.blob.core.windows.net/disks/one?sp=w&sig=x")
                            ->read_offer(refusal(403, "AuthorizationPermissionMismatch"))
                            .status();
  CHECK(status.kind() == Kind::kDenied);
  CHECK(
      status.text() ==
      "HTTP status 403, AuthorizationPermissionMismatch: the SAS does not allow this (sp=); the "
      "SAS must allow to read, too: it has sp=w, and sp=rw is needed");
  CHECK_FALSE(blob("https://me.blob.core.windows.net/disks/one?sp=r&sig=x")
                  ->read_offer(head("512"))
                  .value()
                  .can_write);
}

TEST_CASE("only what is missing, and is to be created, is created, and nothing is wiped",
          "[azure]") {
  CHECK(blob()->read_offer(refusal(404, "BlobNotFound")).status().kind() == Kind::kDenied);
  const auto creating = blob(kBlob, false, true);
  CHECK(creating->read_offer(refusal(404, "BlobNotFound")).value().missing);
  CHECK(creating->read_offer(refusal(404, "ContainerNotFound")).status().kind() == Kind::kDenied);
  const auto request = creating->create(1024);
  REQUIRE(request);
  CHECK(request->method == http::Method::kPut);
  CHECK(request->target == "/disks/one?sv=2021-12-02&sp=rw&sig=x");
  for (const char* line : {"x-ms-blob-type: PageBlob", "x-ms-blob-content-length: 1024",
                           "If-None-Match: *", "Content-Length: 0", "x-ms-version: 2021-12-02"})
    CHECK(has(*request, line));
  CHECK(creating->check_create(refusal(201, "")).ok());
  CHECK(creating->check_create(refusal(409, "BlobAlreadyExists")).ok());
  CHECK_FALSE(creating->check_create(refusal(409, "LeaseIdMissing")).ok());
}

TEST_CASE("data and zeroes are put as pages", "[azure]") {
  const http::Request write = blob()->write({1024, 4}, {{"data", 4}}, false);
  CHECK(write.target == "/disks/one?sv=2021-12-02&sp=rw&sig=x&comp=page");
  CHECK(has(write, "x-ms-page-write: update"));
  CHECK(has(write, "x-ms-range: bytes=1024-1027"));
  const http::Request zero = blob()->zero({0, uint64_t{1} << 40}, false);
  CHECK(has(zero, "x-ms-page-write: clear"));
  CHECK(has(zero, "x-ms-range: bytes=0-1099511627775"));
  CHECK(has(zero, "Content-Length: 0"));
  CHECK((zero.parts.empty() && zero.text.empty()));
}

TEST_CASE("a checksum is that of all parts, zeroes among them", "[azure]") {
  // printf 'data\0\0\0\0' | openssl md5 -binary | base64
  const http::Request write =
      blob(kBlob, true)->write({0, 8}, {{"data", 4}, {nullptr, 4}}, false);
  CHECK(has(write, "Content-MD5: oOl+cqtedBUFNWm6q2l0xQ=="));
  CHECK_FALSE(has(blob()->write({0, 8}, {{"data", 4}, {nullptr, 4}}, false),
                  "Content-MD5: oOl+cqtedBUFNWm6q2l0xQ=="));
}

TEST_CASE("what a refusal means is told by the code, or else by the status", "[azure]") {
  const std::tuple<int, const char*, Kind> rows[] = {
      {503, "ServerBusy", Kind::kBusy},
      {500, "OperationTimedOut", Kind::kUnavailable},
      {500, "InternalError", Kind::kUnavailable},
      {500, "", Kind::kServerError},
      {403, "AuthenticationFailed", Kind::kDenied},
      {412, "LeaseIdMissing", Kind::kDenied},
      {400, "Md5Mismatch", Kind::kLost},
      {413, "RequestBodyTooLarge", Kind::kRejected},
      {416, "InvalidPageRange", Kind::kRejected},
      {409, "SomethingNew", Kind::kRejected},
      {200, "", Kind::kMalformed},
  };
  for (const auto& [status, code, kind] : rows) {
    INFO(code);
    CHECK(blob()->check_change(refusal(status, code)).kind() == kind);
  }
  CHECK(blob()->check_change(refusal(201, "")).ok());
  http::Reply busy = refusal(503, "ServerBusy");
  busy.headers.set("Retry-After", "7");
  CHECK(blob()->check_change(busy).retry_after() == std::chrono::seconds(7));
}

TEST_CASE("a list of pages has what lies between as holes, and its neighbours joined",
          "[azure]") {
  const std::string text =
      "<?xml version=\"1.0\"?><PageList>"
      "<PageRange><Start>512</Start><End>1023</End></PageRange>"
      "<PageRange><Start>1024</Start><End>1535</End></PageRange>"
      "<PageRange><Start>4096</Start><End>9999</End></PageRange></PageList>";
  for (size_t step = 1; step < 40; ++step) {
    const auto extents = list_of(text, 8192, step);
    REQUIRE(extents.ok());
    REQUIRE(extents.value().size() == 4);
    CHECK(extents.value()[0].range == ByteRange{0, 512});
    CHECK(extents.value()[0].hole);
    CHECK(extents.value()[1].range == ByteRange{512, 1024});
    CHECK_FALSE(extents.value()[1].zero);
    CHECK(extents.value()[2].range == ByteRange{1536, 2560});
    // What is said to be beyond the end is left out.
    CHECK(extents.value()[3].range == ByteRange{4096, 4096});
  }
  const auto empty = list_of("<PageList/>", 8192, 3);
  REQUIRE(empty.ok());
  REQUIRE(empty.value().size() == 1);
  CHECK(empty.value()[0].hole);
}

TEST_CASE("a list of pages that makes no sense is refused", "[azure]") {
  const std::string range = "<PageRange><Start>0</Start><End>511</End></PageRange>";
  for (const std::string& text : {
           std::string("[]"),
           std::string(),
           std::string("<PageList>"),
           std::string("<EnumerationResults/>"),
           "<PageList>" + range + range + "</PageList>",
           std::string(
               "<PageList><PageRange><Start>9</Start><End>8</End></PageRange></PageList>"),
           std::string("<PageList><PageRange><Start>0</Start></PageRange></PageList>"),
           "<PageList><PageRange><Start>" + std::string(5000, '0') + "</Start></PageRange>",
           std::string("<!DOCTYPE x [<!ENTITY a \"aaaa\">]><PageList/>"),
           std::string("<a><a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a></a>"),
       }) {
    INFO(text.substr(0, 80));
    CHECK(list_of(text, 1 << 20, 7).status().kind() == Kind::kMalformed);
  }
}

TEST_CASE("a list in pages is asked for until its end, and one without an end is refused",
          "[azure]") {
  const auto target = blob();
  const auto reader = target->extents_reader(4096);
  CHECK(target->extents(*reader).target == "/disks/one?sv=2021-12-02&sp=rw&sig=x&comp=pagelist");
  const auto page = [&](uint64_t start, const std::string& marker) {
    http::Reply reply;
    reply.status = 200;
    reply.body = "<PageList><PageRange><Start>" + std::to_string(start) + "</Start><End>" +
                 std::to_string(start + 511) + "</End></PageRange><NextMarker>" + marker +
                 "</NextMarker></PageList>";
    return reader->finish_page(reply);
  };
  CHECK(page(0, "a b/1").value());
  CHECK(target->extents(*reader).target ==
        "/disks/one?sv=2021-12-02&sp=rw&sig=x&comp=pagelist&marker=a%20b%2F1");
  CHECK_FALSE(page(1024, "").value());
  CHECK(reader->take_extents().size() == 4);
  const auto endless = target->extents_reader(4096);
  http::Reply same;
  same.body = "<PageList><NextMarker>x</NextMarker></PageList>";
  CHECK(endless->finish_page(same).value());
  CHECK(endless->finish_page(same).status().text() ==
        "the server's reply makes no sense: the list of pages does not end");
}

TEST_CASE("a request is signed over its method, length, fields, path and query", "[azure]") {
  http::Request request = blob("https://me.blob.core.windows.net/disks/one")
                              ->write({0, 512}, {{nullptr, 512}}, false);
  request.headers.emplace_back("x-ms-date: Fri, 26 Jun 2015 23:39:12 GMT");
  CHECK(upload::target::string_to_sign("me", request) ==
        "PUT\n\n\n512\n\napplication/octet-stream\n\n\n\n\n\n\n"
        "x-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-page-write:update\n"
        "x-ms-range:bytes=0-511\nx-ms-version:2021-12-02\n/me/disks/one\ncomp:page");
  upload::testing::FakeClock clock;
  const auto key = upload::target::make_shared_key("me", upload::base64("secret key"), clock);
  REQUIRE(key);
  key->authorize(request);
  CHECK(request.authorization.starts_with("SharedKey me:"));
  CHECK(request.authorization.size() == std::string("SharedKey me:").size() + 44);
  CHECK(upload::target::make_shared_key("me", "not Base64!", clock) == nullptr);
}

TEST_CASE("the footer of a managed disk is written where there is none", "[azure]") {
  constexpr uint64_t kSize = uint64_t{64} << 20;
  const auto disk = make_azure_disk(url(kBlob), {});
  const Result<Capabilities> offered = disk->read_offer(head(std::to_string(kSize + 512)));
  REQUIRE(offered.ok());
  CHECK(offered.value().size == kSize);
  CHECK_FALSE(disk->read_offer(head("512")).ok());
  CHECK(make_azure(url("https://md-impexp-1.z1.blob.storage.azure.net/c/d?sp=rw"), {})
            ->read_offer(head(std::to_string(kSize + 512)))
            .value()
            .size == kSize);

  http::Reply read;
  read.status = 206;
  read.sunk = 512;
  read.headers.set("Content-Range", "bytes 67108864-67109375/67109376");
  for (const bool is_there : {false, true}) {
    const auto preparation = disk->prepare(offered.value(), kSize);
    REQUIRE(preparation);
    const auto first = preparation->next();
    REQUIRE(first);
    CHECK(has(*first, "Range: bytes=67108864-67109375"));
    const auto footer = upload::target::make_vhd_footer(kSize);
    if (is_there) std::copy(footer.begin(), footer.end(), first->sink.begin());
    REQUIRE(preparation->read(read).ok());
    const auto second = preparation->next();
    CHECK(second.has_value() == !is_there);
    if (!second) continue;
    CHECK(has(*second, "x-ms-range: bytes=67108864-67109375"));
    CHECK(preparation->read(refusal(201, "")).ok());
    CHECK_FALSE(preparation->next());
  }
  CHECK(blob()->prepare(offered.value(), kSize) == nullptr);
}

TEST_CASE("a footer tells its size, and is told from anything else", "[azure]") {
  using upload::target::is_vhd_footer;
  for (const uint64_t size : {uint64_t{1} << 20, uint64_t{10} << 30, uint64_t{32} << 40}) {
    auto footer = upload::target::make_vhd_footer(size);
    CHECK(is_vhd_footer(footer, size));
    CHECK_FALSE(is_vhd_footer(footer, size + 512));
    footer[100] = std::byte{1};
    CHECK_FALSE(is_vhd_footer(footer, size));
  }
  CHECK_FALSE(is_vhd_footer({}, 0));
}

TEST_CASE("with a lease each change shows it, and its loss is the claim's", "[azure]") {
  const auto target =
      make_azure(url(kBlob), {.lease_id = "11111111-2222-4333-8444-555555555555"});
  const std::string shown = "x-ms-lease-id: 11111111-2222-4333-8444-555555555555";
  CHECK(has(target->write({0, 512}, {{nullptr, 512}}, false), shown));
  CHECK(has(target->zero({0, 512}, false), shown));
  CHECK_FALSE(has(blob()->zero({0, 512}, false), shown));
  for (const char* code :
       {"LeaseIdMismatchWithBlobOperation", "LeaseLost", "LeaseNotPresentWithBlobOperation"})
    CHECK(target->check_change(refusal(412, code)).kind() == Kind::kClaimLost);
  CHECK(target->check_change(refusal(403, "AuthenticationFailed")).kind() == Kind::kDenied);
}

TEST_CASE("a lease is acquired if nothing has changed, and keeps other metadata", "[azure]") {
  const auto target =
      make_azure(url(kBlob), {.lease_id = "11111111-2222-4333-8444-555555555555"});
  const auto lease = target->lease();
  http::Reply reply = head("512");
  reply.headers.set("ETag", "\"0x1\"");
  reply.headers.set("x-ms-lease-state", "expired");
  reply.headers.set("x-ms-meta-project", "moving");
  reply.headers.set("x-ms-meta-nbdkitupload", upload::base64("who it was"));
  const auto seen = lease->read_look(reply);
  REQUIRE(seen.ok());
  CHECK_FALSE(seen.value().held);
  CHECK(seen.value().text == "who it was");
  const http::Request acquire = lease->acquire(seen.value(), std::chrono::seconds(30));
  for (const char* line :
       {"x-ms-lease-action: acquire", "x-ms-lease-duration: 30",
        "x-ms-proposed-lease-id: 11111111-2222-4333-8444-555555555555", "If-Match: \"0x1\""})
    CHECK(has(acquire, line));
  const http::Request write = lease->write(seen.value(), "who it is");
  CHECK(has(write, "x-ms-meta-project: moving"));
  CHECK(has(write, "x-ms-meta-nbdkitupload: " + upload::base64("who it is")));
  CHECK(has(write, "x-ms-lease-id: 11111111-2222-4333-8444-555555555555"));
  reply.headers.set("x-ms-lease-state", "leased");
  CHECK(lease->read_look(reply).value().held);

  CHECK(lease->read_acquire(refusal(201, "")).value());
  CHECK_FALSE(lease->read_acquire(refusal(409, "LeaseAlreadyPresent")).value());
  CHECK_FALSE(lease->read_acquire(refusal(412, "ConditionNotMet")).value());
  // Such as on a managed disk: nothing to wait for.
  CHECK(lease->read_acquire(refusal(403, "FeatureNotSupported")).status().kind() ==
        Kind::kInvalid);
  CHECK(lease->read_acquire(refusal(503, "ServerBusy")).status().kind() == Kind::kBusy);
  CHECK(lease->check(refusal(409, "LeaseIdMismatchWithLeaseOperation")).kind() ==
        Kind::kClaimLost);
  CHECK(lease->check(refusal(200, "")).ok());
}
