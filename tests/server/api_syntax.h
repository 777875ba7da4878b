// SPDX-License-Identifier: BSD-3-Clause
//
// What requests of the images API look like. Pure functions, any thread.
// Source: docs/images.md of github.com/oVirt/ovirt-imageio, RFC 9110 for the ranges.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "byte_range.h"

namespace upload::testserver {

/// Why a request is refused: becomes an error reply of one line.
struct Refusal {
  int status = 400;
  std::string text{};
  bool close = false;                              // the reply closes the connection
  std::optional<std::uint64_t> available_bytes{};  // 416: what Content-Range tells
};

template <class T>
using Parsed = std::variant<T, Refusal>;

/// A request target, percent-decoded. Of a key that comes twice the last value counts.
struct Target {
  std::string path;
  std::map<std::string, std::string> query;
};
[[nodiscard]] Target parse_target(std::string_view text);

enum class Resource { image, extents, checksum, unknown };

struct Route {
  Resource resource = Resource::unknown;
  std::string ticket_id{};  // may be empty
};
[[nodiscard]] Route parse_route(std::string_view path);

/// The first byte of a Content-Range; the rest is checked and then ignored.
[[nodiscard]] Parsed<std::uint64_t> parse_content_range(std::string_view text);

/// A Range header: `last` is inclusive, and missing in `bytes=5-`.
struct RequestedRange {
  std::uint64_t first = 0;
  std::optional<std::uint64_t> last{};
};
[[nodiscard]] Parsed<RequestedRange> parse_range(std::string_view text);

/// `flush=` of a PUT's query.
[[nodiscard]] Parsed<bool> parse_flush(const Target& target);

/// The JSON of a PATCH.
struct Patch {
  enum class Kind { zero, flush };
  Kind kind = Kind::flush;
  ByteRange range{};   // of zero; may overflow
  bool flush = false;  // of zero
};
[[nodiscard]] Parsed<Patch> parse_patch(std::string_view json);

/// Nothing if the range ends within `size` bytes, without overflow.
[[nodiscard]] std::optional<Refusal> check_range(const ByteRange& range, std::uint64_t size);

}  // namespace upload::testserver
