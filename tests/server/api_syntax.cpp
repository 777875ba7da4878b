// SPDX-License-Identifier: BSD-3-Clause
//
// Parsing of targets, ranges and PATCH messages.
//
// What is accepted, what is refused and with which status follows what the real daemon
// can be observed to do: a Range it does not like is 416, a Content-Range is 400, of the
// latter only the first byte counts, though the rest must make sense. It is strict on
// purpose: a range that is misunderstood is a corrupted image.
//
// Threads: no state. Errors: a Refusal with a line for the client. Not here: what needs
// to know the ticket, except for the bounds check.

#include "api_syntax.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

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

/// Splits at the first separator; the second part is empty without one.
std::pair<std::string_view, std::string_view> split(std::string_view text, char at) {
  const auto found = text.find(at);
  if (found == std::string_view::npos) {
    return {text, {}};
  }
  return {text.substr(0, found), text.substr(found + 1)};
}

/// All of `text`, digits only.
std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, ec] = std::from_chars(text.data(), end, value);
  if (ec != std::errc() || stop != end) {
    return std::nullopt;
  }
  return value;
}

Refusal bad_content_range(std::string_view text) {
  return {400, "Invalid Content-Range: '" + std::string(text) + "'"};
}

Refusal bad_range(std::string_view text) {
  return {416, "Cannot satisfy range '" + std::string(text) + "'"};
}

Refusal bad_patch(const std::string& text) { return {400, text}; }

}  // namespace

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

Route parse_route(std::string_view path) {
  constexpr std::string_view kImages = "/images/";
  if (!path.starts_with(kImages)) {
    return {};
  }
  const std::string_view rest = path.substr(kImages.size());
  constexpr std::pair<std::string_view, Resource> kSuffixes[] = {
      {"/extents", Resource::extents}, {"/checksum", Resource::checksum}};
  for (const auto& [suffix, resource] : kSuffixes) {
    if (rest.ends_with(suffix)) {
      return {resource, std::string(rest.substr(0, rest.size() - suffix.size()))};
    }
  }
  return {Resource::image, std::string(rest)};
}

Parsed<std::uint64_t> parse_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) {
    return bad_content_range(text);
  }
  const auto [range, complete_text] = split(text.substr(kUnit.size()), '/');
  const auto [first_text, last_text] = split(range, '-');
  const auto first = parse_number(first_text);
  const auto last = parse_number(last_text);
  const auto complete = parse_number(complete_text);
  if (!first || (!last && last_text != "*") || (!complete && complete_text != "*")) {
    return bad_content_range(text);
  }
  if (last && (*last < *first || (complete && *last >= *complete))) {
    return bad_content_range(text);
  }
  return *first;
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

Parsed<bool> parse_flush(const Target& target) {
  const auto found = target.query.find("flush");
  if (found == target.query.end() || found->second == "y") {
    return true;
  }
  if (found->second == "n") {
    return false;
  }
  return Refusal{400, "Unsupported value for flush: '" + found->second + "'"};
}

Parsed<Patch> parse_patch(std::string_view json) {
  const auto message = nlohmann::json::parse(json, nullptr, false);
  if (!message.is_object()) {
    return bad_patch("Invalid JSON message");
  }
  const auto op = message.find("op");
  if (op == message.end() || (*op != "zero" && *op != "flush")) {
    return bad_patch("Missing or unsupported op, expecting zero or flush");
  }
  Patch patch;
  if (*op == "flush") {
    return patch;
  }
  patch.kind = Patch::Kind::zero;
  const auto size = message.find("size");
  if (size == message.end() || !size->is_number_unsigned()) {
    return bad_patch("size must be a number that is not negative");
  }
  patch.range.length = size->get<std::uint64_t>();
  if (const auto offset = message.find("offset"); offset != message.end()) {
    if (!offset->is_number_unsigned()) {
      return bad_patch("offset must be a number that is not negative");
    }
    patch.range.offset = offset->get<std::uint64_t>();
  }
  if (const auto flush = message.find("flush"); flush != message.end()) {
    if (!flush->is_boolean()) {
      return bad_patch("flush must be true or false");
    }
    patch.flush = flush->get<bool>();
  }
  return patch;
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
