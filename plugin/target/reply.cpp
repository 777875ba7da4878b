// SPDX-License-Identifier: BSD-3-Clause
//
// The table of status codes, and replies to ranges.

#include "target/reply.h"

#include <algorithm>
#include <cinttypes>
#include <utility>

#include "base/format.h"
#include "base/parse.h"
#include "base/redact.h"

namespace upload::target {

namespace {

// Of what a server may ask for with Retry-After, in seconds.
constexpr uint64_t kLongestWait = 3600;

struct Row {
  int status;
  Kind kind;
  const char* meaning;
};

constexpr const char* kDeniedText = "the ticket expired, was cancelled or does not allow this";

constexpr Row kRows[] = {
    {400, Kind::kRejected, "the server found the request malformed"},
    {401, Kind::kUnauthorized,
     "the server wants other credentials (user=, token=, token-url=, "
     "token-script=, header=)"},
    {403, Kind::kDenied, kDeniedText},
    // An images server answers 403 for a ticket that it does not know; the path is another one's.
    {404, Kind::kDenied, "no such image at this URL"},
    {405, Kind::kRejected, "the server does not know this method"},
    {407, Kind::kUnauthorized, "the proxy wants credentials"},
    {408, Kind::kUnavailable, "the server gave up waiting for the request"},
    {410, Kind::kDenied, kDeniedText},
    {413, Kind::kNoSpace, "the request is too large for the server"},
    {416, Kind::kRejected, "the range is beyond what the ticket allows"},
    {429, Kind::kUnavailable, "the server wants fewer requests"},
    {500, Kind::kServerError, "the server failed"},
    {502, Kind::kGateway, "a proxy can't reach the server"},
    {503, Kind::kUnavailable, "the server is not available"},
    {504, Kind::kGateway, "a proxy gave up waiting for the server"},
    {507, Kind::kNoSpace, "the server is out of space"},
};

}  // namespace

Status malformed(const std::string& why) {
  return {Kind::kMalformed, "the server's reply makes no sense: " + why};
}

Status classify(const http::Reply& reply, int success) {
  if (reply.status == success) return {};
  const std::string body = excerpt(reply.body);
  std::string text = "HTTP status " + std::to_string(reply.status);
  const auto row = std::find_if(std::begin(kRows), std::end(kRows),
                                [&](const Row& r) { return r.status == reply.status; });
  if (row != std::end(kRows)) {
    text += std::string(": ") + row->meaning;
  } else if (reply.status < 400) {
    text += ": unexpected here (" + std::to_string(success) + " would be right)";
  }
  if (!body.empty()) text += ": " + body;
  if (row != std::end(kRows)) {
    Status status(row->kind, text);
    // In seconds; the other form, a date, would need clocks that agree.
    const std::optional<uint64_t> wait = parse_number(reply.headers.get("Retry-After"));
    if (wait) status.set_retry_after(std::chrono::seconds(std::min(*wait, kLongestWait)));
    return status;
  }
  // Another success, or a redirection: what was done is unknown.
  if (reply.status < 400) return {Kind::kMalformed, text};
  return {reply.status >= 500 ? Kind::kServerError : Kind::kRejected, text};
}

std::string describe(const char* what, ByteRange range) {
  return format("%s %" PRIu64 " bytes at offset %" PRIu64, what, range.length, range.offset);
}

http::Request read_range(std::string target, ByteRange range, void* sink) {
  http::Request request;
  request.target = std::move(target);
  request.headers = {format("Range: bytes=%" PRIu64 "-%" PRIu64, range.offset, range.last())};
  request.sink = {static_cast<std::byte*>(sink), range.length};
  request.what = describe("read", range);
  return request;
}

Status check_partial(const http::Reply& reply, ByteRange range) {
  if (Status status = classify(reply, 206); !status.ok()) return status;
  const std::string& sent = reply.headers.get("Content-Range");
  const auto content_range = http::parse_content_range(sent);
  if (!content_range) return malformed("206 with the Content-Range '" + excerpt(sent) + "'");
  if (content_range->range != range)
    return malformed("asked for " + describe("", range) + ", it sent '" + excerpt(sent) + "'");
  if (reply.sunk != range.length)
    return malformed(
        format("asked for %" PRIu64 " bytes, it sent %" PRIu64, range.length, reply.sunk));
  return {};
}

}  // namespace upload::target
