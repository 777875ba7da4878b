// SPDX-License-Identifier: BSD-3-Clause
//
// One function for each protocol. What each demands of a request is what was seen of its servers,
// and where they differ, of the strictest.

#include "sim/protocol.h"

#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "sim/scheduler.h"

namespace upload::sim {

namespace {

using http::Method;
using Verb = Asked::Verb;

constexpr uint64_t kPage = 512;
constexpr uint64_t kMostOfPut = uint64_t{4} << 20;

// Empty: there is no such field.
std::string field(const http::Request& request, const std::string& name) {
  for (const std::string& line : request.headers)
    if (line.starts_with(name + ": ")) return line.substr(name.size() + 2);
  return "";
}

bool asks_for(const http::Request& request, const char* parameter) {
  return request.target.find(parameter) != std::string::npos;
}

// `form` of a first and a last byte.
ByteRange range_in(const std::string& text, const char* form) {
  unsigned long long first = 0;
  unsigned long long last = 0;
  require(sscanf(text.c_str(), form, &first, &last) == 2 && first <= last,
          "a request without a range");
  return {first, last + 1 - first};
}

std::vector<char> body_of(const http::Request& request) {
  std::vector<char> body;
  for (const http::BodyPart& part : request.parts) {
    const auto* const data = static_cast<const char*>(part.data);
    if (data == nullptr)
      body.resize(body.size() + part.length);
    else
      body.insert(body.end(), data, data + part.length);
  }
  return body;
}

void parse_read(const http::Request& request, Asked& asked) {
  asked.verb = Verb::kRead;
  asked.range = range_in(field(request, "Range"), "bytes=%llu-%llu");
  require(asked.range.length == request.sink.size(), "a GET of another length");
}

void parse_data(const http::Request& request, Asked& asked, ByteRange range) {
  asked.verb = Verb::kChange;
  asked.range = range;
  asked.data = body_of(request);
  require(asked.data.size() == range.length, "a PUT of another length");
}

void parse_imageio(const http::Request& request, Asked& asked) {
  switch (request.method) {
    case Method::kOptions: return;
    case Method::kPost: asked.verb = Verb::kDirect; return;
    case Method::kGet:
      if (!request.sink.empty()) return parse_read(request, asked);
      asked.verb = Verb::kExtents;
      return;
    case Method::kPut:
      asked.flushes = !asks_for(request, "flush=n");
      return parse_data(request, asked,
                        range_in(field(request, "Content-Range"), "bytes %llu-%llu/*"));
    case Method::kPatch: break;
    default: fail("a method that the images API does not have");
  }
  const auto json = nlohmann::json::parse(request.text);
  if (json.at("op") == "zero") {
    asked.verb = Verb::kChange;
    asked.range = {json.at("offset"), json.at("size")};
    asked.flushes = json.at("flush");
    asked.data.resize(asked.range.length);
  } else {
    asked.verb = Verb::kFlush;
    asked.flushes = true;
  }
}

void parse_page_put(const http::Request& request, Asked& asked) {
  const ByteRange range = range_in(field(request, "x-ms-range"), "bytes=%llu-%llu");
  require(range.offset % kPage == 0 && range.length % kPage == 0, "a PUT of a part of a page");
  const std::string action = field(request, "x-ms-page-write");
  if (action == "clear") {
    require(request.parts.empty() && field(request, "Content-Length") == "0",
            "pages are cleared with a body");
    asked.verb = Verb::kChange;
    asked.range = range;
    asked.data.resize(range.length);
    return;
  }
  require(action == "update", "a PUT of pages that neither updates nor clears");
  require(range.length <= kMostOfPut, "a PUT of more than 4 MiB");
  parse_data(request, asked, range);
}

void parse_azure(const http::Request& request, Asked& asked, uint64_t size) {
  require(!field(request, "x-ms-version").empty(), "a request without a version");
  switch (request.method) {
    case Method::kHead: return;
    case Method::kGet:
      if (!asks_for(request, "comp=pagelist")) return parse_read(request, asked);
      asked.verb = Verb::kExtents;
      if (const size_t at = request.target.find("marker=page"); at != std::string::npos)
        asked.marker = strtoull(request.target.c_str() + at + strlen("marker=page"), nullptr, 10);
      return;
    case Method::kPut: break;
    default: fail("a method that page blobs do not have");
  }
  if (asks_for(request, "comp=page")) return parse_page_put(request, asked);
  asked.verb = Verb::kCreate;
  require(field(request, "x-ms-blob-type") == "PageBlob" &&
              field(request, "x-ms-blob-content-length") == std::to_string(size),
          "a blob of another type or size is created");
  require(field(request, "If-None-Match") == "*", "a blob is created over one that may be there");
}

void parse_webdav(const http::Request& request, Asked& asked) {
  if (asks_for(request, ".probe-")) asked.probe = request.target;
  switch (request.method) {
    case Method::kHead: return;
    case Method::kGet: return parse_read(request, asked);
    case Method::kDelete:
      require(!asked.probe.empty(), "the disk is removed");
      asked.verb = Verb::kRemove;
      return;
    case Method::kPut: break;
    default: fail("a method that WebDAV files do not have");
  }
  const std::string part = field(request, "Content-Range");
  asked.whole = part.empty();
  require(!asked.whole || !asked.probe.empty(), "the disk is replaced as a whole");
  parse_data(
      request, asked,
      asked.whole ? ByteRange{0, body_of(request).size()} : range_in(part, "bytes %llu-%llu/*"));
  require(asked.range.length > 0, "a PUT without a body");
}

}  // namespace

const char* name_of(Protocol protocol) {
  switch (protocol) {
    case Protocol::kImageio: return "imageio";
    case Protocol::kAzure: return "azure";
    case Protocol::kWebdav: return "webdav";
  }
  return "?";
}

std::string path_of(Protocol protocol, unsigned disk) {
  const std::string name = "ticket-" + std::to_string(disk);
  switch (protocol) {
    case Protocol::kImageio: return "/images/" + name;
    case Protocol::kAzure: return "/container/" + name;
    case Protocol::kWebdav: return "/dav/" + name;
  }
  return "";
}

unsigned disk_of(const http::Request& request) {
  const size_t at = request.target.find("/ticket-");
  unsigned disk = 0;
  require(
      at != std::string::npos && sscanf(request.target.c_str() + at, "/ticket-%u", &disk) == 1,
      "a request for no disk");
  return disk;
}

Asked parse(Protocol protocol, const http::Request& request, uint64_t size) {
  Asked asked;
  asked.disk = disk_of(request);
  switch (protocol) {
    case Protocol::kImageio: parse_imageio(request, asked); break;
    case Protocol::kAzure: parse_azure(request, asked, size); break;
    case Protocol::kWebdav: parse_webdav(request, asked); break;
  }
  require(!(asked.changes() || asked.verb == Verb::kRead) || asked.range.end() <= size,
          "a request beyond the end");
  return asked;
}

}  // namespace upload::sim
