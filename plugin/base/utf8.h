// SPDX-License-Identifier: BSD-3-Clause
//
// UTF-8 (RFC 3629): one character of it, there and back. Pure functions.

#pragma once

#include <string>
#include <string_view>

namespace upload {

struct Utf8 {
  char32_t character = 0;
  size_t length = 0;  // in bytes; 0: that is not UTF-8
};

// The first character of `text`. Overlong forms, surrogates and what is beyond U+10FFFF
// are not UTF-8.
[[nodiscard]] inline Utf8 decode_utf8(std::string_view text) {
  if (text.empty()) return {};
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return {};
  char32_t character = first & (0x7fU >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    character = character << 6 | (byte(i) & 0x3fU);
  }
  constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (character < kLeast[length] || character > 0x10ffff ||
      (character >= 0xd800 && character <= 0xdfff))
    return {};
  return {character, length};
}

// Nothing for what is no character.
[[nodiscard]] inline std::string encode_utf8(char32_t c) {
  const auto rest = [&](int shift) { return static_cast<char>(0x80 | (c >> shift & 0x3f)); };
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xc0 | c >> 6), rest(0)};
  if (c >= 0xd800 && c <= 0xdfff) return {};
  if (c < 0x10000) return {static_cast<char>(0xe0 | c >> 12), rest(6), rest(0)};
  if (c > 0x10ffff) return {};
  return {static_cast<char>(0xf0 | c >> 18), rest(12), rest(6), rest(0)};
}

}  // namespace upload
