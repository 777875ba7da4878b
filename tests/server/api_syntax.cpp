// SPDX-License-Identifier: BSD-3-Clause
//
// Parsing of routes, Content-Range and PATCH messages.
//
// What is accepted, what is refused and with which status follows what the real daemon
// can be observed to do: a Content-Range that it does not like is 400, and of it only the first
// byte counts, though the rest must make sense.
//
// Threads: no state. Errors: a Refusal with a line for the client. Not here: what needs
// to know the ticket.

#include "api_syntax.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "checksums.h"

namespace upload::testserver {

namespace {

Refusal bad_content_range(std::string_view text) {
  return {400, "Invalid Content-Range: '" + std::string(text) + "'"};
}

Refusal bad_patch(const std::string& text) { return {400, text}; }

}  // namespace

Route parse_route(std::string_view path) {
  constexpr std::string_view kImages = "/images/";
  if (!path.starts_with(kImages)) {
    return {};
  }
  const std::string_view rest = path.substr(kImages.size());
  constexpr std::pair<std::string_view, Resource> kSuffixes[] = {
      {"/extents", Resource::extents},
      {"/checksum/algorithms", Resource::algorithms},
      {"/checksum", Resource::checksum}};
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

Parsed<ChecksumQuery> parse_checksum(const Target& target) {
  constexpr std::uint64_t kLeast = std::uint64_t{1} << 20, kMost = std::uint64_t{16} << 20;
  ChecksumQuery asked;
  if (const auto found = target.query.find("algorithm"); found != target.query.end()) {
    asked.algorithm = found->second;
    const auto known = BlockChecksum::algorithms();
    if (std::find(known.begin(), known.end(), asked.algorithm) == known.end()) {
      return Refusal{400, "Invalid value for 'algorithm': '" + asked.algorithm + "'"};
    }
  }
  if (const auto found = target.query.find("block_size"); found != target.query.end()) {
    asked.block_size = parse_number(found->second).value_or(0);
    if (asked.block_size < kLeast || asked.block_size > kMost || asked.block_size % 4096 != 0) {
      return Refusal{400, "Invalid block size: '" + found->second + "'"};
    }
  }
  return asked;
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

}  // namespace upload::testserver
