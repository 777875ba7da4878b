// SPDX-License-Identifier: BSD-3-Clause
//
// Request and Reply: what goes over a connection, without how. Plain values;
// a Request refers to memory that its maker keeps alive until the reply.
//
// Source: RFC 9110 (HTTP semantics), RFC 9112 (HTTP/1.1).

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/byte_range.h"
#include "base/clock.h"
#include "base/fence.h"
#include "base/status.h"

namespace upload::http {

enum class Method { kGet, kHead, kPut, kPatch, kPost, kDelete, kOptions };

[[nodiscard]] const char* method_name(Method method);

// A stretch of a request's body. A null `data` stands for zeroes.
struct BodyPart {
  const void* data = nullptr;
  uint64_t length = 0;
};

// Takes a body while it comes. One thread at a time.
class BodySink {
 public:
  virtual ~BodySink() = default;
  // A failure ends the request, with which it fails. Exceptions: std::bad_alloc.
  [[nodiscard]] virtual Status take(std::string_view piece) = 0;
};

// The fields of a reply's header, by their names in any case (RFC 9110, section 5.1). Of a name
// that comes more than once the last value counts. A value.
class Headers {
 public:
  void set(std::string_view name, std::string value);
  // Empty: there is none.
  [[nodiscard]] const std::string& get(std::string_view name) const;
  [[nodiscard]] auto begin() const { return fields_.begin(); }
  [[nodiscard]] auto end() const { return fields_.end(); }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;  // names in lower case
};

struct Request {
  Method method = Method::kGet;
  // What follows the origin: path and query.
  std::string target;
  // "Name: value" lines, beside those that the origin adds to every request.
  std::vector<std::string> headers;
  // The value of the Authorization field, a secret; empty: there is none.
  std::string authorization;
  // The body is `text`, or else `parts` one after another.
  std::string text;
  std::vector<BodyPart> parts;
  // Where the body of a 206 reply goes. Others go to Reply::body.
  std::span<std::byte> sink;
  // Who takes the body of a 200 reply, as far as the connection passes it on; what it
  // does not is in Reply::body. Null: Reply::body has it whole.
  BodySink* body_sink = nullptr;
  // A reply body of more than so many bytes is refused.
  uint64_t max_reply = uint64_t{64} << 10;
  // The whole request must be over in that time, also if it moves; zero: no limit.
  Duration within{0};
  // The request is under way only while this is open, and fails with kClaimLost otherwise;
  // null: always.
  const Fence* fence = nullptr;
  // For error texts and the log, such as "write 4096 bytes at offset 0".
  std::string what;
};

struct Reply {
  int status = 0;
  // Not what was put into a sink.
  std::string body;
  // Bytes put into the sink.
  uint64_t sunk = 0;
  Headers headers;

  // The connection can't carry another request.
  bool last = false;
};

// The three numbers of "bytes a-b/t"; t may be "*". Nothing when malformed.
struct ContentRange {
  ByteRange range;
  std::optional<uint64_t> total;
};
[[nodiscard]] std::optional<ContentRange> parse_content_range(const std::string& text);

}  // namespace upload::http
