// SPDX-License-Identifier: BSD-3-Clause
//
// What every kind of login checks of what it has got.

#include "login/login.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/format.h"
#include "base/redact.h"

namespace upload::login {

Status check_token(const std::string& text) {
  if (text.empty()) return {Kind::kLogin, "the token is empty"};
  if (text.size() > kLongestToken)
    return {Kind::kLogin, format("the token has %zu bytes, more than the %zu that it may have",
                                 text.size(), kLongestToken)};
  // What RFC 6749, A.12, allows, without the blank, which would end it.
  if (!std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; }))
    return {Kind::kLogin, "the token has characters in it that a token can't have"};
  return {};
}

Result<Duration> parse_life(const std::string& text) {
  double seconds = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, seconds);
  if (error != std::errc() || stop != end || !std::isfinite(seconds))
    return Status(Kind::kLogin,
                  "the life time '" + excerpt(text) + "' is not a number of seconds");
  if (seconds < 0.001)
    return Status(Kind::kLogin, "the life time '" + excerpt(text) + "' is over when it begins");
  const double longest = std::chrono::duration<double>(kLongestLife).count();
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(std::min(seconds, longest)));
}

}  // namespace upload::login
