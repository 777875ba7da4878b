// SPDX-License-Identifier: BSD-3-Clause
//
// The little of HTTP's grammar that libcurl leaves to its callers.

#include "http/message.h"

#include <string_view>

#include "base/parse.h"

namespace upload::http {

const char* method_name(Method method) {
  switch (method) {
    case Method::kGet: return "GET";
    case Method::kPut: return "PUT";
    case Method::kPatch: return "PATCH";
    case Method::kPost: return "POST";
    case Method::kOptions: return "OPTIONS";
  }
  return "?";
}

std::optional<ContentRange> parse_content_range(const std::string& text) {
  std::string_view rest = text;
  constexpr std::string_view kUnit = "bytes ";
  if (rest.substr(0, kUnit.size()) != kUnit) return std::nullopt;
  rest.remove_prefix(kUnit.size());
  const size_t dash = rest.find('-');
  const size_t slash = rest.find('/');
  if (dash == rest.npos || slash == rest.npos || dash > slash) return std::nullopt;
  const auto first = parse_number(rest.substr(0, dash));
  const auto last = parse_number(rest.substr(dash + 1, slash - dash - 1));
  if (!first || !last || *last < *first || *last == UINT64_MAX) return std::nullopt;
  ContentRange result{{*first, *last - *first + 1}, std::nullopt};
  const std::string_view total = rest.substr(slash + 1);
  if (total != "*") {
    result.total = parse_number(total);
    if (!result.total || *result.total <= *last) return std::nullopt;
  }
  return result;
}

}  // namespace upload::http
