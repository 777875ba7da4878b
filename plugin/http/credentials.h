// SPDX-License-Identifier: BSD-3-Clause
//
// Credentials: what a request shows to be allowed. They belong to the request, not to the
// connection: each shows what is right when it is sent.

#pragma once

#include <memory>
#include <string>
#include <utility>

#include "base/status.h"

namespace upload::http {

// The value of the Authorization field (RFC 9110, section 11.6.2). A secret. Constant.
struct Credential {
  explicit Credential(std::string value) : authorization(std::move(value)) {}
  virtual ~Credential() = default;
  Credential(const Credential&) = delete;
  Credential& operator=(const Credential&) = delete;

  const std::string authorization;
};
using CredentialPtr = std::shared_ptr<const Credential>;

// Thread safe.
class Credentials {
 public:
  virtual ~Credentials() = default;

  // What the next request shows; not null. `what` it is, for the log. May log in, in a
  // time that is bounded; a failure of that is of Kind::kLogin.
  [[nodiscard]] virtual Result<CredentialPtr> current(const std::string& what) = 0;

  // The server has answered `what` with this status, 401 or 403, and was shown `refused`.
  // Another that it may take; null: there is none, and the answer stands. `again`: that
  // request has been refused before; then only what has expired meanwhile is worth another.
  // May log in, too.
  [[nodiscard]] virtual Result<CredentialPtr> after_refusal(const Credential& refused, int status,
                                                            bool again,
                                                            const std::string& what) = 0;
};

// The same for all requests, for ever.
class FixedCredentials final : public Credentials {
 public:
  explicit FixedCredentials(std::string authorization)
      : credential_(std::make_shared<Credential>(std::move(authorization))) {}

  [[nodiscard]] Result<CredentialPtr> current(const std::string&) override { return credential_; }
  [[nodiscard]] Result<CredentialPtr> after_refusal(const Credential&, int, bool,
                                                    const std::string&) override {
    return CredentialPtr();
  }

 private:
  const CredentialPtr credential_;
};

}  // namespace upload::http
