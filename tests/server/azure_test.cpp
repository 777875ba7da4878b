// SPDX-License-Identifier: BSD-3-Clause
//
// Pins what the test server says when it speaks Azure's protocol: pages, leases, credentials, and
// what faults mean there. That it says what real servers say is tests/stand_in.sh's business.
//
// Threads: the server's. Nothing sleeps: leases grow old by Server::advance_leases().

#include <future>
#include <string>

#include "azure_syntax.h"
#include "blob_lease.h"
#include "catch.h"
#include "checksums.h"
#include "page_ranges.h"
#include "raw_client.h"
#include "server.h"
#include "test_client.h"

namespace upload::testserver {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kLong{15'000};
constexpr std::uint64_t kBlobBytes = 8 * 1024 * 1024;
const std::string kVersion = "x-ms-version: 2021-12-02";
const std::string kId = "11111111-2222-3333-4444-555555555555";
const std::string kOtherId = "99999999-2222-3333-4444-555555555555";

using Headers = std::vector<std::string>;

ServerOptions azure_options() {
  ServerOptions options;
  options.tls = false;
  options.protocol = ProtocolKind::azure;
  return options;
}

/// A started server with a page blob "disk", and a client.
class Fixture {
 public:
  explicit Fixture(ServerOptions options = azure_options()) : server(std::move(options)) {
    TicketOptions ticket;
    ticket.id = "disk";
    ticket.size_bytes = kBlobBytes;
    server.add_ticket(ticket);
    server.start();
    client = std::make_unique<TestClient>(server.url("disk"), ClientOptions{});
  }

  Answer ask(const std::string& method, const std::string& query, Headers headers,
             const std::string& body = {}) const {
    headers.push_back(kVersion);
    return client->request(method, query, headers, body);
  }

  Answer put(std::uint64_t offset, const std::string& data, Headers headers = {}) const {
    headers.push_back("x-ms-page-write: update");
    headers.push_back(range(offset, data.size()));
    return ask("PUT", "?comp=page", headers, data);
  }

  Answer clear(std::uint64_t offset, std::uint64_t length, Headers headers = {}) const {
    headers.push_back("x-ms-page-write: clear");
    headers.push_back(range(offset, length));
    return ask("PUT", "?comp=page", headers);
  }

  Answer lease(const std::string& action, Headers headers) const {
    headers.push_back("x-ms-lease-action: " + action);
    return ask("PUT", "?comp=lease", headers);
  }
  Answer acquire(const std::string& id = kId, int duration = 15) const {
    return lease("acquire", {"x-ms-proposed-lease-id: " + id,
                             "x-ms-lease-duration: " + std::to_string(duration)});
  }

  static std::string range(std::uint64_t offset, std::uint64_t length) {
    return "x-ms-range: bytes=" + std::to_string(offset) + "-" +
           std::to_string(offset + length - 1);
  }

  std::string stable(std::uint64_t offset, std::size_t length, const std::string& id = "disk") {
    const auto data = server.read_stable(id, offset, length);
    return {data.begin(), data.end()};
  }

  Server server;
  std::unique_ptr<TestClient> client;
};

std::string field(const Answer& answer, const std::string& name) {
  const auto at = answer.header.find("\r\n" + name + ": ");
  if (at == std::string::npos) {
    return {};
  }
  const auto from = at + name.size() + 4;
  return answer.header.substr(from, answer.header.find('\r', from) - from);
}

std::string error_of(const Answer& answer) {
  return std::to_string(answer.status) + " " + field(answer, "x-ms-error-code");
}

std::string pages(char c, std::size_t count) { return std::string(512 * count, c); }

std::string page_range(std::uint64_t first, std::uint64_t last) {
  return "<PageRange><Start>" + std::to_string(first) + "</Start><End>" + std::to_string(last) +
         "</End></PageRange>";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Headers holding(const std::string& id) { return {"x-ms-lease-id: " + id}; }

const Headers kCreate = {"x-ms-blob-type: PageBlob", "x-ms-blob-content-length: 1024"};

}  // namespace

// Pages

TEST_CASE("Azure: what is acknowledged is stable") {
  const Fixture f;
  const Answer answer = f.put(512, pages('a', 2));
  CHECK(answer.status == 201);
  CHECK_FALSE(field(answer, "etag").empty());
  CHECK(field(answer, "x-ms-blob-sequence-number") == "0");
  CHECK(const_cast<Fixture&>(f).stable(512, 1024) == pages('a', 2));
  CHECK(f.clear(512, 512).status == 201);
  CHECK(const_cast<Fixture&>(f).stable(512, 1024) == pages('\0', 1) + pages('a', 1));
  CHECK(f.server.unflushed_bytes("disk") == 0);
  const Counters counters = f.server.counters();
  CHECK(counters.bytes_put == 1024);
  CHECK(counters.bytes_zeroed == 512);
  CHECK(counters.requests_of(Op::put) == 1);
  CHECK(counters.requests_of(Op::zero) == 1);
}

TEST_CASE("Azure: a page write that is not well-formed is refused, and the connection stays") {
  const Fixture f;
  REQUIRE(f.put(0, pages('a', 1)).ok());
  const auto refused = [&](const std::string& how, const std::string& text,
                           const std::string& body, const std::string& expected) {
    CAPTURE(how, text);
    Headers headers = {"x-ms-page-write: " + how};
    if (!text.empty()) {
      headers.push_back("x-ms-range: " + text);
    }
    const Answer answer = f.ask("PUT", "?comp=page", headers, body);
    CHECK(error_of(answer) == expected);
    CHECK_FALSE(contains(answer.header, "connection: close"));
  };
  refused("update", "bytes=1-512", pages('b', 1), "416 InvalidPageRange");
  refused("update", "bytes=0-510", std::string(511, 'b'), "416 InvalidPageRange");
  refused("update", "bytes=512-511", pages('b', 1), "400 InvalidHeaderValue");
  refused("update", "bytes=8388608-8389119", pages('b', 1), "416 InvalidPageRange");
  refused("update", "bytes=8388096-8389119", pages('b', 2), "416 InvalidPageRange");
  refused("update", "bytes=0-511", pages('b', 2), "416 InvalidPageRange");
  refused("update", "bytes=0-1023", pages('b', 1), "416 InvalidPageRange");
  refused("update", "", pages('b', 1), "416 InvalidPageRange");
  refused("update", "junk", pages('b', 1), "400 InvalidHeaderValue");
  refused("update", "bytes=0-4194815", pages('b', 8193), "413 RequestBodyTooLarge");
  refused("clear", "bytes=0-511", pages('b', 1), "400 InvalidHeaderValue");
  refused("clear", "bytes=0-100", "", "416 InvalidPageRange");
  refused("wipe", "bytes=0-511", "", "400 InvalidHeaderValue");
  CHECK(error_of(f.ask("PUT", "?comp=page", {f.range(0, 512)})) == "400 MissingRequiredHeader");
  CHECK(f.put(0, pages('c', 8192)).ok());
}

TEST_CASE("Azure: a request without x-ms-version is refused") {
  const Fixture f;
  CHECK(error_of(f.client->request("HEAD", "", {}, "")) == "400 MissingRequiredHeader");
  CHECK(error_of(f.client->request("HEAD", "", {"x-ms-version: latest"}, "")) ==
        "400 InvalidHeaderValue");
}

TEST_CASE("Azure: checksums are checked") {
  const Fixture f;
  const std::string data = pages('a', 1);
  const std::string good_md5 = base64(md5(data));
  const std::string good_crc = base64(crc64(data));
  CHECK(f.put(0, data, {"Content-MD5: " + good_md5}).ok());
  CHECK(f.put(0, data, {"x-ms-content-crc64: " + good_crc}).ok());
  const std::string other = pages('b', 1);
  CHECK(error_of(f.put(0, other, {"Content-MD5: " + good_md5})) == "400 Md5Mismatch");
  CHECK(error_of(f.put(0, other, {"x-ms-content-crc64: " + good_crc})) == "400 Crc64Mismatch");
  CHECK(error_of(f.put(0, other, {"Content-MD5: junk"})) == "400 InvalidMd5");
  CHECK(f.ask("GET", "", {f.range(0, 512)}).body == data);
}

TEST_CASE("The checksum that Azure uses is CRC-64/NVME") {
  const std::string text = "123456789";
  CHECK(crc64(text) == std::string("\x88\x98\x79\x0A\x86\x14\x8B\xAE", 8));
}

TEST_CASE("Azure: a blob tells its size, type, tag and lease") {
  const Fixture f;
  const Answer head = f.ask("HEAD", "", {});
  CHECK(head.status == 200);
  CHECK(head.body.empty());
  CHECK(field(head, "content-length") == "8388608");
  CHECK(field(head, "x-ms-blob-type") == "PageBlob");
  CHECK(field(head, "accept-ranges") == "bytes");
  CHECK(field(head, "x-ms-lease-state") == "available");
  CHECK(field(head, "x-ms-lease-status") == "unlocked");
  const std::string tag = field(head, "etag");
  REQUIRE(f.put(0, pages('a', 1)).ok());
  CHECK(field(f.ask("HEAD", "", {}), "etag") != tag);
  CHECK(error_of(f.put(0, pages('b', 1), {"If-Match: " + tag})) == "412 ConditionNotMet");
}

TEST_CASE("Azure: reads are cut at the end, and refused beyond it") {
  const Fixture f;
  REQUIRE(f.put(kBlobBytes - 512, pages('a', 1)).ok());
  const Answer part = f.ask("GET", "", {f.range(kBlobBytes - 4, 100)});
  CHECK(part.status == 206);
  CHECK(part.body == "aaaa");
  CHECK(field(part, "content-range") == "bytes 8388604-8388607/8388608");
  CHECK(f.ask("GET", "", {"Range: bytes=8388600-"}).body == "aaaaaaaa");
  CHECK(f.ask("GET", "", {}).body.size() == kBlobBytes);
  const Answer beyond = f.ask("GET", "", {f.range(kBlobBytes, 1)});
  CHECK(error_of(beyond) == "416 InvalidRange");
  CHECK(contains(beyond.body, "<Code>InvalidRange</Code>"));
  CHECK(field(beyond, "content-range") == "bytes */8388608");
}

TEST_CASE("Azure: the list of pages has what was written, unmerged") {
  const Fixture f;
  const_cast<Fixture&>(f).server.fill("disk", 1024 * 1024, std::vector<char>(65536, 'x'));
  REQUIRE(f.put(0, pages('a', 2)).ok());
  REQUIRE(f.put(1024, pages('\0', 1)).ok());  // written all the same
  REQUIRE(f.clear(512, 512).ok());
  const Answer all = f.ask("GET", "?comp=pagelist", {});
  CHECK(all.status == 200);
  CHECK(field(all, "x-ms-blob-content-length") == "8388608");
  CHECK(contains(all.body, "<PageList>" + page_range(0, 511) + page_range(1024, 1535) +
                               page_range(1048576, 1114111) + "<NextMarker/></PageList>"));
  const Answer part = f.ask("GET", "?comp=pagelist", {f.range(256, 1024)});
  CHECK(contains(part.body,
                 "<PageList>" + page_range(256, 511) + page_range(1024, 1279) + "<NextMarker/>"));
  CHECK(error_of(f.ask("GET", "?comp=pagelist", {f.range(kBlobBytes, 512)})) ==
        "416 InvalidRange");
}

TEST_CASE("Azure: a long list of pages goes on with a marker") {
  ServerOptions options = azure_options();
  options.azure.pages_per_list = 2;
  const Fixture f(options);
  for (const std::uint64_t offset : {0, 2048, 4096}) {
    REQUIRE(f.put(offset, pages('a', 1)).ok());
  }
  const Answer first = f.ask("GET", "?comp=pagelist", {});
  CHECK(contains(first.body, page_range(0, 511) + page_range(2048, 2559) +
                                 "<NextMarker>pages-from-4096</NextMarker>"));
  const Answer second = f.ask("GET", "?comp=pagelist&marker=pages-from-4096", {});
  CHECK(contains(second.body, "<PageList>" + page_range(4096, 4607) + "<NextMarker/>"));
  CHECK(contains(f.ask("GET", "?comp=pagelist&maxresults=1", {}).body, "pages-from-2048"));
  CHECK(f.ask("GET", "?comp=pagelist&marker=here", {}).status == 400);
}

TEST_CASE("Written pages are a set of ranges") {
  PageRanges written;
  const auto all = [&] { return written.list({0, 100}, 10); };
  written.write({10, 10});
  written.write({20, 10});
  CHECK(all() == std::vector<ByteRange>{{10, 10}, {20, 10}});
  written.write({15, 10});
  CHECK(all() == std::vector<ByteRange>{{10, 5}, {15, 10}, {25, 5}});
  written.clear({16, 2});
  CHECK(all() == std::vector<ByteRange>{{10, 5}, {15, 1}, {18, 7}, {25, 5}});
  written.clear({0, 100});
  CHECK(all().empty());
}

TEST_CASE("Azure: a blob is made, made anew and deleted") {
  Fixture f;
  TestClient other(f.server.url("new"), {});
  const auto make = [&](Headers headers) {
    headers.insert(headers.end(), kCreate.begin(), kCreate.end());
    headers.push_back(kVersion);
    return other.request("PUT", "", headers, "");
  };
  CHECK(error_of(other.request("HEAD", "", {kVersion}, "")) == "404 BlobNotFound");
  CHECK(make({"If-None-Match: *", "x-ms-meta-owner: me"}).status == 201);
  CHECK(field(other.request("HEAD", "", {kVersion}, ""), "x-ms-meta-owner") == "me");
  CHECK(error_of(make({"If-None-Match: *"})) == "409 BlobAlreadyExists");
  REQUIRE(other
              .request("PUT", "?comp=page",
                       {kVersion, "x-ms-page-write: update", f.range(0, 512)}, pages('a', 1))
              .ok());
  CHECK(f.stable(0, 512, "new") == pages('a', 1));
  CHECK(make({}).status == 201);
  CHECK(f.stable(0, 512, "new") == pages('\0', 1));
  CHECK_FALSE(contains(other.request("GET", "?comp=pagelist", {kVersion}, "").body, "Start"));
  CHECK(other.request("DELETE", "", {kVersion}, "").status == 202);
  CHECK(error_of(other.request("GET", "", {kVersion}, "")) == "404 BlobNotFound");
  CHECK(
      error_of(f.ask("PUT", "", {"x-ms-blob-type: PageBlob", "x-ms-blob-content-length: 100"})) ==
      "400 InvalidHeaderValue");
  CHECK(error_of(f.ask("PUT", "", {"x-ms-blob-content-length: 512"})) ==
        "400 MissingRequiredHeader");
  TestClient elsewhere("http://localhost:" + std::to_string(f.server.port()) + "/nowhere/disk",
                       {});
  CHECK(error_of(elsewhere.request("HEAD", "", {kVersion}, "")) == "404 ContainerNotFound");
  TestClient brief("http://localhost:" + std::to_string(f.server.port()) + "/images/disk", {});
  CHECK(brief.request("HEAD", "", {kVersion}, "").status == 200);
}

TEST_CASE("Azure: of many who make a blob that must not exist one does") {
  Fixture f;
  std::vector<std::future<long>> answers;
  for (int i = 0; i < 8; ++i) {
    answers.push_back(std::async(std::launch::async, [&] {
      TestClient other(f.server.url("new"), {});
      Headers headers = kCreate;
      headers.insert(headers.end(), {kVersion, "If-None-Match: *"});
      return other.request("PUT", "", headers, "").status;
    }));
  }
  int made = 0;
  for (auto& answer : answers) {
    const long status = answer.get();
    CHECK((status == 201 || status == 409));
    made += status == 201 ? 1 : 0;
  }
  CHECK(made == 1);
}

TEST_CASE("Azure: a page write that is cut off changes nothing") {
  Fixture f;
  {
    RawClient raw(f.server.port());
    raw.send("PUT /images/disk?comp=page HTTP/1.1\r\nHost: localhost\r\n" + kVersion +
             "\r\nx-ms-page-write: update\r\n" + f.range(0, 1024) +
             "\r\nContent-Length: 1024\r\n\r\n" + pages('a', 1));
  }
  REQUIRE(f.server.wait_until(
      [](const Counters& c) { return c.requests_of(Op::put) == 1 && c.active_requests == 0; },
      kLong));
  CHECK(f.stable(0, 512) == pages('\0', 1));
}

TEST_CASE("Azure: a refusal comes before the body, which may still follow") {
  Fixture f;
  REQUIRE(f.acquire().ok());
  RawClient raw(f.server.port());
  const std::string put = "PUT /images/disk?comp=page HTTP/1.1\r\nHost: localhost\r\n" +
                          kVersion + "\r\nx-ms-page-write: update\r\n" + f.range(0, 512) +
                          "\r\nContent-Length: 512\r\n";
  raw.send(put + "\r\n");
  CHECK(contains(raw.receive_until("</Error>"), "412 Precondition Failed"));
  raw.send(pages('a', 1));
  raw.send(put + "x-ms-lease-id: " + kId + "\r\n\r\n" + pages('b', 1));
  CHECK(contains(raw.receive_until("\r\n\r\n"), "201 Created"));
  CHECK(f.stable(0, 512) == pages('b', 1));
}

TEST_CASE("Azure: a client that waits for 100 Continue and is refused loses its connection") {
  Fixture f;
  RawClient raw(f.server.port());
  raw.send("PUT /images/none?comp=page HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n" +
           kVersion + "\r\nContent-Length: 512\r\n\r\n");
  const std::string reply = raw.receive_until("</Error>");
  CHECK(contains(reply, "404 Not Found"));
  CHECK(contains(reply, "connection: close"));
}

// Leases

TEST_CASE("Azure: a lease is needed for every write, and for no read") {
  const Fixture f;
  const Answer acquired = f.acquire();
  CHECK(acquired.status == 201);
  CHECK(field(acquired, "x-ms-lease-id") == kId);
  const auto writes = [&](const Headers& headers) {
    Headers meta = headers;
    meta.push_back("x-ms-meta-a: b");
    return std::vector<std::string>{error_of(f.put(0, pages('a', 1), headers)),
                                    error_of(f.clear(0, 512, headers)),
                                    error_of(f.ask("PUT", "?comp=metadata", meta))};
  };
  CHECK(writes({}) == std::vector<std::string>(3, "412 LeaseIdMissing"));
  CHECK(writes(holding(kOtherId)) ==
        std::vector<std::string>(3, "412 LeaseIdMismatchWithBlobOperation"));
  CHECK(writes(holding(kId)) == std::vector<std::string>{"201 ", "201 ", "200 "});
  CHECK(error_of(f.ask("PUT", "", kCreate)) == "412 LeaseIdMissing");
  CHECK(error_of(f.ask("DELETE", "", {})) == "412 LeaseIdMissing");
  const Answer head = f.ask("HEAD", "", {});
  CHECK(head.status == 200);
  CHECK(field(head, "x-ms-lease-state") == "leased");
  CHECK(field(head, "x-ms-lease-status") == "locked");
  CHECK(field(head, "x-ms-lease-duration") == "fixed");
  CHECK(field(head, "x-ms-meta-a") == "b");
  CHECK(f.ask("GET", "?comp=pagelist", {}).ok());
  CHECK(error_of(f.ask("HEAD", "", holding(kOtherId))) == "412 LeaseIdMismatchWithBlobOperation");
  CHECK(f.ask("HEAD", "", holding(kId)).ok());
}

TEST_CASE("Azure: who may acquire, renew and release a lease") {
  const Fixture f;
  CHECK(error_of(f.acquire(kId, 14)) == "400 InvalidHeaderValue");
  CHECK(error_of(f.acquire(kId, 61)) == "400 InvalidHeaderValue");
  CHECK(error_of(f.acquire("junk")) == "400 InvalidHeaderValue");
  CHECK(error_of(f.lease("acquire", {})) == "400 MissingRequiredHeader");
  CHECK(error_of(f.lease("steal", {})) == "400 InvalidHeaderValue");
  CHECK(error_of(f.lease("renew", holding(kId))) == "409 LeaseIdMismatchWithLeaseOperation");
  const std::string tag = field(f.ask("HEAD", "", {}), "etag");
  REQUIRE(f.acquire(kId, -1).status == 201);
  CHECK(field(f.ask("HEAD", "", {}), "x-ms-lease-duration") == "infinite");
  CHECK(field(f.ask("HEAD", "", {}), "etag") == tag);
  CHECK(f.acquire(kId).status == 201);  // its reply may have been lost
  CHECK(error_of(f.acquire(kOtherId)) == "409 LeaseAlreadyPresent");
  CHECK(f.lease("renew", holding(kId)).status == 200);
  CHECK(error_of(f.lease("renew", {})) == "400 MissingRequiredHeader");
  CHECK(error_of(f.lease("release", holding(kOtherId))) ==
        "409 LeaseIdMismatchWithLeaseOperation");
  CHECK(f.lease("release", holding(kId)).status == 200);
  CHECK(error_of(f.lease("release", holding(kId))) == "409 LeaseIdMismatchWithLeaseOperation");
  CHECK(f.put(0, pages('a', 1)).ok());
}

TEST_CASE("Azure: a lease that has expired can be renewed until somebody writes") {
  Fixture f;
  REQUIRE(f.acquire().ok());
  f.server.advance_leases(seconds(20));
  CHECK(field(f.ask("HEAD", "", {}), "x-ms-lease-state") == "expired");
  CHECK(error_of(f.put(0, pages('a', 1), holding(kId))) ==
        "412 LeaseNotPresentWithBlobOperation");
  CHECK(f.lease("renew", holding(kId)).status == 200);
  CHECK(f.put(0, pages('a', 1), holding(kId)).ok());
  f.server.advance_leases(seconds(20));
  CHECK(f.put(0, pages('b', 1)).ok());
  CHECK(error_of(f.lease("renew", holding(kId))) == "409 LeaseIdMismatchWithLeaseOperation");
}

TEST_CASE("Azure: a lease that is broken lets its holder write until it ends") {
  Fixture f;
  CHECK(error_of(f.lease("break", {})) == "409 LeaseNotPresentWithLeaseOperation");
  REQUIRE(f.acquire(kId, 60).ok());
  const Answer broken = f.lease("break", {"x-ms-lease-break-period: 10"});
  CHECK(broken.status == 202);
  CHECK(field(broken, "x-ms-lease-time") == "10");
  CHECK(field(f.ask("HEAD", "", {}), "x-ms-lease-state") == "breaking");
  CHECK(f.put(0, pages('a', 1), holding(kId)).ok());
  CHECK(error_of(f.acquire(kOtherId)) == "409 LeaseAlreadyPresent");
  CHECK(error_of(f.lease("renew", holding(kId))) == "409 LeaseIsBrokenAndCannotBeRenewed");
  f.server.advance_leases(seconds(11));
  CHECK(field(f.ask("HEAD", "", {}), "x-ms-lease-state") == "broken");
  CHECK(error_of(f.put(0, pages('a', 1), holding(kId))) ==
        "412 LeaseNotPresentWithBlobOperation");
  CHECK(f.acquire(kOtherId).status == 201);
  CHECK(field(f.lease("break", {"x-ms-lease-break-period: 0"}), "x-ms-lease-time") == "0");
  CHECK(f.put(0, pages('c', 1)).ok());
}

TEST_CASE("Azure: a change that comes late meets the lease as it is then") {
  Fixture f;
  f.server.set_late_apply(milliseconds(1));
  REQUIRE(f.acquire().ok());
  const auto put_late = [&](const std::string& data) {
    Fault late;
    late.op = Op::put;
    late.action = Action::close_after_body;
    f.server.add_fault(late);
    TestClient other(f.server.url("disk"), ClientOptions{.never_reconnect = true});
    Headers headers = holding(kId);
    headers.insert(headers.end(), {kVersion, "x-ms-page-write: update", f.range(0, 512)});
    CHECK(other.request("PUT", "?comp=page", headers, data).code != CURLE_OK);
  };
  put_late(pages('a', 1));
  REQUIRE(f.server.wait_until([](const Counters& c) { return c.late_applied == 1; }, kLong));
  CHECK(f.stable(0, 512) == pages('a', 1));
  f.server.set_late_apply(milliseconds(500));
  put_late(pages('b', 1));
  REQUIRE(f.lease("release", holding(kId)).ok());
  REQUIRE(f.acquire(kOtherId).ok());
  REQUIRE(f.put(0, pages('c', 1), holding(kOtherId)).ok());
  REQUIRE(f.server.wait_until([](const Counters& c) { return c.late_refused == 1; }, kLong));
  CHECK(f.stable(0, 512) == pages('c', 1));
}

// Managed disks

TEST_CASE("Azure: a managed disk can be written to and nothing else") {
  ServerOptions options = azure_options();
  options.azure.managed_disk = true;
  const Fixture f(options);
  CHECK(f.put(0, pages('a', 1)).ok());
  CHECK(f.ask("HEAD", "", {}).ok());
  CHECK(f.ask("PUT", "", kCreate).status == 403);
  CHECK(f.ask("DELETE", "", {}).status == 403);
  CHECK(f.acquire().status == 403);
  CHECK(error_of(f.put(0, pages('a', 1), {"Content-MD5: " + base64(md5(pages('a', 1)))})) ==
        "400 UnsupportedHeader");
}

// Credentials

TEST_CASE("Azure: a request that is signed with the account's key is allowed") {
  ServerOptions options = azure_options();
  options.azure.shared_key = base64("the account's key");
  const Fixture f(options);
  const std::string date = http_date(std::chrono::system_clock::now());
  const std::string data = pages('a', 1);
  const std::string text =
      "PUT\n\n\n512\n\n\n\n\n\n\n\n\nx-ms-date:" + date +
      "\nx-ms-page-write:update\nx-ms-range:bytes=0-511\nx-ms-version:2021-12-02\n"
      "/account/account/images/disk\ncomp:page";
  const auto put = [&](const std::string& signature) {
    return f.put(
        0, data,
        {"Content-Type:", "x-ms-date: " + date, "Authorization: SharedKey account:" + signature});
  };
  CHECK(put(base64(hmac_sha256("the account's key", text))).status == 201);
  const Answer wrong = put(base64(hmac_sha256("another key", text)));
  CHECK(error_of(wrong) == "403 AuthenticationFailed");
  CHECK(contains(wrong.body, "string to sign: 'PUT"));
  CHECK(error_of(put("")) == "400 InvalidAuthenticationInfo");
  CHECK(error_of(f.put(0, data)) == "403 AuthenticationFailed");
}

TEST_CASE("Azure: a shared access signature allows what its permissions say, until it expires") {
  ServerOptions options = azure_options();
  const std::string rest = "&se=2999-01-01T00%3A00%3A00Z&sv=2021-12-02&sr=b&sig=c2VjcmV0";
  options.azure.sas = "sp=rw" + rest;
  Fixture f(options);
  const auto put = [&](const std::string& sas) {
    return error_of(f.ask("PUT", "?comp=page&" + sas,
                          {"x-ms-page-write: update", f.range(0, 512)}, pages('a', 1)));
  };
  const auto head = [&](const std::string& sas) {
    return error_of(f.ask("HEAD", "?" + sas, {}));
  };
  CHECK(put("sp=rw" + rest) == "201 ");
  CHECK(head("sp=rw" + rest) == "200 ");
  CHECK(put("sp=rwd" + rest) == "403 AuthenticationFailed");
  CHECK(put("sp=rw&sig=c2VjcmV0") == "403 AuthenticationFailed");
  CHECK(error_of(f.put(0, pages('a', 1))) == "403 AuthenticationFailed");
  f.server.set_azure_sas("sp=w" + rest);
  CHECK(put("sp=w" + rest) == "201 ");
  CHECK(head("sp=w" + rest) == "403 AuthorizationPermissionMismatch");
  f.server.set_azure_sas("sp=c" + rest);
  CHECK(put("sp=c" + rest) == "403 AuthorizationPermissionMismatch");
  f.server.set_azure_sas("si=policy&sig=c2VjcmV0");
  CHECK(put("si=policy&sig=c2VjcmV0") == "201 ");
  const std::string over = "sp=rw&se=2020-01-01T00:00:00Z&sig=c2VjcmV0";
  f.server.set_azure_sas(over);
  const Answer expired = f.ask("GET", "?" + over, {});
  CHECK(error_of(expired) == "403 AuthenticationFailed");
  CHECK(contains(expired.body,
                 "<AuthenticationErrorDetail>Signature not valid in the specified "
                 "time frame: Start [] - Expiry [Wed, 01 Jan 2020 00:00:00 GMT]"));
}

TEST_CASE("Azure: a bearer token that is not good is answered with a challenge") {
  ServerOptions options = azure_options();
  options.require_authorization = "Bearer good";
  const Fixture f(options);
  CHECK(f.put(0, pages('a', 1), {"Authorization: Bearer good"}).ok());
  const Answer wrong = f.put(0, pages('a', 1), {"Authorization: Bearer bad"});
  CHECK(error_of(wrong) == "401 InvalidAuthenticationInfo");
  CHECK(contains(field(wrong, "www-authenticate"), "Bearer authorization_uri="));
  CHECK(error_of(f.put(0, pages('a', 1))) == "401 NoAuthenticationInformation");
}

// Faults

TEST_CASE("Azure: a server that is busy says when to come back, and has done nothing") {
  Fixture f;
  Fault busy;
  busy.op = Op::put;
  busy.action = Action::server_busy;
  busy.retry_after = seconds(7);
  f.server.add_fault(busy);
  const Answer answer = f.put(0, pages('a', 1));
  CHECK(error_of(answer) == "503 ServerBusy");
  CHECK(field(answer, "retry-after") == "7");
  CHECK(f.stable(0, 512) == pages('\0', 1));
  busy.action = Action::operation_timed_out;
  f.server.add_fault(busy);
  const Answer timed_out = f.put(0, pages('a', 1));
  CHECK(error_of(timed_out) == "500 OperationTimedOut");
  CHECK(timed_out.new_connections == 0);
  CHECK(f.put(0, pages('a', 1)).ok());
}

TEST_CASE("Azure: a change whose reply is lost is stable") {
  Fixture f;
  for (const Action action : {Action::close_after_apply, Action::reset_after_apply,
                              Action::garbage_status_line, Action::garbage}) {
    CAPTURE(name_of(action));
    Fault lost;
    lost.op = Op::put;
    lost.action = action;
    f.server.add_fault(lost);
    REQUIRE(f.clear(0, 512).ok());
    TestClient other(f.server.url("disk"), ClientOptions{.never_reconnect = true});
    CHECK_FALSE(other
                    .request("PUT", "?comp=page",
                             {kVersion, "x-ms-page-write: update", f.range(0, 512)},
                             pages('a', 1))
                    .ok());
    CHECK(f.stable(0, 512) == pages('a', 1));
  }
}

TEST_CASE("Azure: a list of pages can be cut short") {
  Fixture f;
  Fault lie;
  lie.op = Op::extents;
  lie.action = Action::truncate_reply_body;
  f.server.add_fault(lie);
  CHECK(f.ask("GET", "?comp=pagelist", {}).code == CURLE_PARTIAL_FILE);
  CHECK(f.ask("GET", "?comp=pagelist", {}).ok());
}

}  // namespace upload::testserver
