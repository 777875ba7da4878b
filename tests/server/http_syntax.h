// SPDX-License-Identifier: BSD-3-Clause
//
// What requests of all protocols have in common: targets, ranges, refusals. Pure functions,
// any thread. Source: RFC 3986 for the targets, RFC 9110 for the ranges.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "byte_range.h"

namespace upload::testserver {

/// Why a request is refused: becomes an error reply of one line.
struct Refusal {
  int status = 400;
  std::string text{};
  bool close = false;                              // the reply closes the connection
  std::optional<std::uint64_t> available_bytes{};  // 416: what Content-Range tells
  std::string code{};                              // a name for it, where the protocol has names
  std::string detail{};                            // more, where the protocol has room for it
  std::vector<std::pair<std::string, std::string>> headers{};  // further ones of the reply
};

template <class T>
using Parsed = std::variant<T, Refusal>;

/// The value, or null with `refusal` set.
template <class T>
const T* value_of(const Parsed<T>& parsed, std::optional<Refusal>& refusal) {
  if (const auto* why = std::get_if<Refusal>(&parsed)) {
    refusal = *why;
    return nullptr;
  }
  return &std::get<T>(parsed);
}

/// A request target, percent-decoded. Of a key that comes twice the last value counts.
struct Target {
  std::string path;
  std::map<std::string, std::string> query;
};
[[nodiscard]] Target parse_target(std::string_view text);

/// A Range header: `last` is inclusive, and missing in `bytes=5-`.
struct RequestedRange {
  std::uint64_t first = 0;
  std::optional<std::uint64_t> last{};
};
[[nodiscard]] Parsed<RequestedRange> parse_range(std::string_view text);

/// Nothing if the range ends within `size` bytes, without overflow.
[[nodiscard]] std::optional<Refusal> check_range(const ByteRange& range, std::uint64_t size);

/// All of `text`, digits only.
[[nodiscard]] std::optional<std::uint64_t> parse_number(std::string_view text);

/// Splits at the first separator; the second part is empty without one.
[[nodiscard]] std::pair<std::string_view, std::string_view> split(std::string_view text, char at);

}  // namespace upload::testserver
