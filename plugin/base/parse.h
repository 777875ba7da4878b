// SPDX-License-Identifier: BSD-3-Clause
//
// Text to values, as nbdkit writes them. Each returns nothing when the text
// is not entirely of that form, and never prints: whoever asks knows the name
// of the parameter and says so in one line. Pure functions.

#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace upload {

// A decimal number without sign or blanks.
[[nodiscard]] std::optional<uint64_t> parse_number(std::string_view text);

// A size in bytes with the suffixes of nbdkit_parse_size(3):
// b k/K M G T P E (powers of 1024) and s (sectors of 512). At most INT64_MAX.
[[nodiscard]] std::optional<uint64_t> parse_size(std::string_view text);

// The words of nbdkit_parse_bool(3), in any case.
[[nodiscard]] std::optional<bool> parse_bool(std::string_view text);

}  // namespace upload
