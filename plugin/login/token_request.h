// SPDX-License-Identifier: BSD-3-Clause
//
// TokenRequest: a login at an OAuth 2.0 token endpoint, with the credentials of a client
// (RFC 6749, section 4.4) or with a user's name and password (section 4.3).
//
// Each login has a connection of its own: there is one in an hour, say, and none has to be
// kept alive. The reply has to be whole within the origin's time-out.

#pragma once

#include <memory>
#include <string>

#include "http/origin.h"
#include "http/single_requests.h"
#include "login/login.h"

namespace upload::login {

// Secrets but for the scope. Empty: not given.
struct OauthClient {
  std::string id;
  std::string secret;
  std::string user;
  std::string password;
  std::string scope;
};

// What a client's header shows, before Base64. A secret.
[[nodiscard]] std::string basic_credentials(const std::string& id, const std::string& secret);

class TokenRequest final : public Login {
 public:
  // `origin`: its URL is the endpoint's; it has no credentials and no header fields.
  TokenRequest(std::shared_ptr<const http::Origin> origin, const OauthClient& client,
               http::Connector connect);

  [[nodiscard]] Result<Token> log_in() override;
  void stop() override { requests_.interrupt(); }

 private:
  const std::shared_ptr<const http::Origin> origin_;
  const http::Request request_;
  http::SingleRequests requests_;
};

// What the endpoint has answered (RFC 6749, sections 5.1 and 5.2). Whatever may be a token in
// it is a secret from then on.
[[nodiscard]] Result<Token> read_token_reply(const http::Reply& reply);

}  // namespace upload::login
