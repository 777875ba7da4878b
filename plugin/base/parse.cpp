// SPDX-License-Identifier: BSD-3-Clause
//
// Parsers of numbers, sizes and booleans. nbdkit_parse_size and its kin print
// an error of their own that does not know the name of the parameter; with
// them a mistake would give two lines, neither of which names key and value.

#include "base/parse.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <initializer_list>
#include <string>

namespace upload {

std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || stop != end) return std::nullopt;
  return value;
}

std::optional<uint64_t> parse_size(std::string_view text) {
  uint64_t unit = 1;
  if (!text.empty() && std::isdigit(static_cast<unsigned char>(text.back())) == 0) {
    const char suffix = static_cast<char>(std::tolower(static_cast<unsigned char>(text.back())));
    constexpr std::string_view kPowers = "bkmgtpe";  // of 1024
    const size_t power = kPowers.find(suffix);
    if (suffix != 's' && power == kPowers.npos) return std::nullopt;
    unit = suffix == 's' ? 512 : uint64_t{1} << (10 * power);
    text.remove_suffix(1);
  }
  const std::optional<uint64_t> number = parse_number(text);
  if (!number || *number > static_cast<uint64_t>(INT64_MAX) / unit) return std::nullopt;
  return *number * unit;
}

std::optional<bool> parse_bool(std::string_view text) {
  std::string word(text);
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  for (const char* yes : {"1", "true", "t", "yes", "y", "on"})
    if (word == yes) return true;
  for (const char* no : {"0", "false", "f", "no", "n", "off"})
    if (word == no) return false;
  return std::nullopt;
}

}  // namespace upload
