// SPDX-License-Identifier: BSD-3-Clause
//
// Parsing of targets and ranges.
//
// A Range is read strictly on purpose: a range that is misunderstood is a corrupted image. One
// that is not liked is 416, which is what the images API does; other protocols make of it what
// they have.
//
// Threads: no state. Errors: a Refusal with a line for the client. Not here: what needs to know
// the image, except for the bounds check.

#include "http_syntax.h"

#include <charconv>

namespace upload::testserver {

namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

std::string percent_decode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 &&
        hex_digit(text[i + 2]) >= 0) {
      decoded += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

Refusal bad_range(std::string_view text) {
  return {416, "Cannot satisfy range '" + std::string(text) + "'"};
}

}  // namespace

std::pair<std::string_view, std::string_view> split(std::string_view text, char at) {
  const auto found = text.find(at);
  if (found == std::string_view::npos) {
    return {text, {}};
  }
  return {text.substr(0, found), text.substr(found + 1)};
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, ec] = std::from_chars(text.data(), end, value);
  if (ec != std::errc() || stop != end) {
    return std::nullopt;
  }
  return value;
}

Target parse_target(std::string_view text) {
  const auto [path, query] = split(text, '?');
  Target target{percent_decode(path), {}};
  std::string_view rest = query;
  while (!rest.empty()) {
    const auto [pair, tail] = split(rest, '&');
    const auto [key, value] = split(pair, '=');
    if (!key.empty()) {
      target.query[percent_decode(key)] = percent_decode(value);
    }
    rest = tail;
  }
  return target;
}

Parsed<RequestedRange> parse_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes=";
  if (!text.starts_with(kUnit)) {
    return bad_range(text);
  }
  const auto [first_text, last_text] = split(text.substr(kUnit.size()), '-');
  const auto first = parse_number(first_text);
  const auto last = parse_number(last_text);
  const bool has_dash = text.find('-') != std::string_view::npos;
  // The last n bytes (`bytes=-n`) are refused too, as the real daemon does.
  if (!has_dash || !first || (!last && !last_text.empty()) || (last && *last < *first)) {
    return bad_range(text);
  }
  return RequestedRange{*first, last};
}

std::optional<Refusal> check_range(const ByteRange& range, std::uint64_t size) {
  if (range.length <= size && range.offset <= size - range.length) {
    return std::nullopt;
  }
  Refusal refusal{416, "Requested range is out of the allowed range"};
  refusal.available_bytes = size;
  return refusal;
}

}  // namespace upload::testserver
