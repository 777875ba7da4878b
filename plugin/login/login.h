// SPDX-License-Identifier: BSD-3-Clause
//
// Login: a way to get a token for the requests to a server. What uses it is a session
// (login/session.h).

#pragma once

#include <optional>
#include <string>

#include "base/clock.h"
#include "base/status.h"

namespace upload::login {

// Of a token. Longer ones fit into no server's header.
inline constexpr size_t kLongestToken = size_t{64} << 10;
// Of a token's life time; what is longer is as good as for ever.
inline constexpr Duration kLongestLife = std::chrono::hours(24 * 365 * 10);

struct Token {
  std::string text;              // RFC 6750, section 2.1; a secret
  std::optional<Duration> life;  // since the login began; more than zero; nothing: not told
};

// Success if the text can be a token; the failure's text says what is wrong, not what it is.
[[nodiscard]] Status check_token(const std::string& text);
// `text`: the life time in seconds, perhaps with a fraction. At most kLongestLife.
[[nodiscard]] Result<Duration> parse_life(const std::string& text);

class Login {
 public:
  virtual ~Login() = default;

  // One thread at a time. Ends within a time that is its own to know. The failure's text
  // says where it was tried, and shows no secret.
  [[nodiscard]] virtual Result<Token> log_in() = 0;
  // Makes a login under way fail soon, and any later one at once. Any thread.
  virtual void stop() = 0;
};

}  // namespace upload::login
