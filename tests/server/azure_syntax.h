// SPDX-License-Identifier: BSD-3-Clause
//
// What requests and replies of Azure's blob service look like. Pure functions, any thread.
// Source: learn.microsoft.com/rest/api/storageservices.

#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "byte_range.h"
#include "http_syntax.h"
#include "options.h"

namespace upload::testserver {

/// A refusal with Azure's name for it.
[[nodiscard]] Refusal azure_refusal(int status, const std::string& code, const std::string& text);

/// What a path names, with the account's name in front or without. Nothing for a path of another
/// shape.
struct BlobName {
  std::string container;
  std::string blob;  // empty: the container itself
};
[[nodiscard]] std::optional<BlobName> parse_blob_path(std::string_view path,
                                                      const std::string& account);

/// `bytes=FIRST-LAST` in full. A refusal: 400.
[[nodiscard]] Parsed<RequestedRange> parse_azure_range(std::string_view text);

/// Eight hexadecimal digits, four, four, four, twelve.
[[nodiscard]] bool is_guid(std::string_view text);
/// One that nobody else has.
[[nodiscard]] std::string new_guid();

/// As HTTP writes a date (RFC 9110), and reads it.
[[nodiscard]] std::string http_date(std::chrono::system_clock::time_point time);
[[nodiscard]] std::optional<std::chrono::system_clock::time_point> parse_http_date(
    const std::string& text);
/// As a shared access signature writes it: 2026-11-22T10:00:00Z, or the day only.
[[nodiscard]] std::optional<std::chrono::system_clock::time_point> parse_iso_date(
    const std::string& text);

[[nodiscard]] std::string error_xml(const Refusal& refusal, const std::string& request_id);
/// `next_marker` is empty when there are no more.
[[nodiscard]] std::string page_list_xml(const std::vector<ByteRange>& pages,
                                        const std::string& next_marker);

}  // namespace upload::testserver
