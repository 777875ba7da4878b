// SPDX-License-Identifier: BSD-3-Clause
//
// Parsing and writing for Azure.
//
// XML begins with a byte order mark, as Azure's does: clients that take the first byte for `<`
// fail here and not there only.
//
// Threads: no state but a source of chance for each thread. Errors: refusals, or nothing.

#include "azure_syntax.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <random>

namespace upload::testserver {

namespace {

constexpr std::string_view kXmlStart = "\xEF\xBB\xBF<?xml version=\"1.0\" encoding=\"utf-8\"?>";
constexpr const char* kHttpDate = "%a, %d %b %Y %H:%M:%S GMT";

std::string escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '&': escaped += "&amp;"; break;
      default: escaped += c; break;
    }
  }
  return escaped;
}

std::optional<std::chrono::system_clock::time_point> parse_date(const std::string& text,
                                                                const char* format) {
  std::tm parts{};
  const char* const end = ::strptime(text.c_str(), format, &parts);
  if (end == nullptr || *end != '\0') {
    return std::nullopt;
  }
  // Centuries ahead is as good as never, and more than the clock can count.
  constexpr std::time_t kLatest = 9'000'000'000;
  return std::chrono::system_clock::from_time_t(std::min(::timegm(&parts), kLatest));
}

}  // namespace

Refusal azure_refusal(int status, const std::string& code, const std::string& text) {
  Refusal refusal{status, text};
  refusal.code = code;
  return refusal;
}

std::optional<BlobName> parse_blob_path(std::string_view path, const std::string& account) {
  if (!path.starts_with('/')) {
    return std::nullopt;
  }
  path.remove_prefix(1);
  if (const auto [first, rest] = split(path, '/'); first == account) {
    path = rest;
  }
  const auto [container, blob] = split(path, '/');
  if (container.empty()) {
    return std::nullopt;
  }
  return BlobName{std::string(container), std::string(blob)};
}

Parsed<RequestedRange> parse_azure_range(std::string_view text) {
  Parsed<RequestedRange> parsed = parse_range(text);
  if (std::holds_alternative<Refusal>(parsed)) {
    return azure_refusal(400, "InvalidHeaderValue",
                         "The value for one of the HTTP headers is not in the correct format: '" +
                             std::string(text) + "'");
  }
  return parsed;
}

bool is_guid(std::string_view text) {
  constexpr std::string_view kShape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  return text.size() == kShape.size() &&
         std::equal(text.begin(), text.end(), kShape.begin(), [](char c, char shape) {
           const char lower = static_cast<char>(c | 0x20);
           return shape == '-' ? c == '-'
                               : (c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'f');
         });
}

std::string new_guid() {
  thread_local std::mt19937_64 random(std::random_device{}());
  const std::uint64_t high = random();
  const std::uint64_t low = random();
  char text[40];
  std::snprintf(text, sizeof text, "%08llx-%04llx-%04llx-%04llx-%012llx",
                static_cast<unsigned long long>(high >> 32),
                static_cast<unsigned long long>(high >> 16 & 0xFFFF),
                static_cast<unsigned long long>(high & 0xFFFF),
                static_cast<unsigned long long>(low >> 48),
                static_cast<unsigned long long>(low & 0xFFFFFFFFFFFF));
  return text;
}

std::string http_date(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[64];
  const std::size_t length = std::strftime(text, sizeof text, kHttpDate, &parts);
  return {text, length};
}

std::optional<std::chrono::system_clock::time_point> parse_http_date(const std::string& text) {
  return parse_date(text, kHttpDate);
}

std::optional<std::chrono::system_clock::time_point> parse_iso_date(const std::string& text) {
  const auto full = parse_date(text, "%Y-%m-%dT%H:%M:%SZ");
  return full ? full : parse_date(text, "%Y-%m-%d");
}

std::string error_xml(const Refusal& refusal, const std::string& request_id) {
  std::string xml(kXmlStart);
  xml += "<Error><Code>" + escape(refusal.code) + "</Code><Message>" + escape(refusal.text) +
         "\nRequestId:" + request_id + "\nTime:" + http_date(std::chrono::system_clock::now()) +
         "</Message>";
  if (!refusal.detail.empty()) {
    xml +=
        "<AuthenticationErrorDetail>" + escape(refusal.detail) + "</AuthenticationErrorDetail>";
  }
  return xml + "</Error>";
}

std::string page_list_xml(const std::vector<ByteRange>& pages, const std::string& next_marker) {
  std::string xml(kXmlStart);
  xml += "<PageList>";
  for (const ByteRange& range : pages) {
    xml += "<PageRange><Start>" + std::to_string(range.offset) + "</Start><End>" +
           std::to_string(range.end() - 1) + "</End></PageRange>";
  }
  xml += next_marker.empty() ? "<NextMarker/>" : "<NextMarker>" + next_marker + "</NextMarker>";
  return xml + "</PageList>";
}

}  // namespace upload::testserver
