// SPDX-License-Identifier: BSD-3-Clause
//
// The little of HTTP's grammar that libcurl leaves to its callers.

#include "http/message.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "base/parse.h"

namespace upload::http {

const char* method_name(Method method) {
  switch (method) {
    case Method::kGet: return "GET";
    case Method::kHead: return "HEAD";
    case Method::kPut: return "PUT";
    case Method::kPatch: return "PATCH";
    case Method::kPost: return "POST";
    case Method::kDelete: return "DELETE";
    case Method::kOptions: return "OPTIONS";
  }
  return "?";
}

void Headers::set(std::string_view name, std::string value) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  for (auto& [known, old] : fields_)
    if (known == lower) {
      old = std::move(value);
      return;
    }
  fields_.emplace_back(std::move(lower), std::move(value));
}

const std::string& Headers::get(std::string_view name) const {
  static const std::string kNone;
  for (const auto& [known, value] : fields_)
    if (known.size() == name.size() &&
        std::equal(known.begin(), known.end(), name.begin(),
                   [](char a, unsigned char b) { return a == std::tolower(b); }))
      return value;
  return kNone;
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
