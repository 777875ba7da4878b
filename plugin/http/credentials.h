// SPDX-License-Identifier: BSD-3-Clause
//
// Credentials: what a request shows to be allowed. They belong to the request, not to the
// connection: each shows what is right when it is sent.

#pragma once

#include <memory>
#include <string>
#include <utility>

#include "base/status.h"
#include "http/message.h"

namespace upload::http {

// What is put into a request to show that it is allowed. Constant, so any thread may use it.
class Credential {
 public:
  Credential() = default;
  virtual ~Credential() = default;
  Credential(const Credential&) = delete;
  Credential& operator=(const Credential&) = delete;

  // Sets the Authorization field (RFC 9110, section 11.6.2), and others that belong to it. Nothing
  // else of the request is changed after that.
  virtual void authorize(Request& request) const = 0;
};

// One that is the same for every request.
class FixedCredential : public Credential {
 public:
  explicit FixedCredential(std::string authorization)
      : authorization_(std::move(authorization)) {}
  void authorize(Request& request) const override { request.authorization = authorization_; }

 private:
  const std::string authorization_;  // a secret
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
  explicit FixedCredentials(CredentialPtr credential) : credential_(std::move(credential)) {}

  [[nodiscard]] Result<CredentialPtr> current(const std::string&) override { return credential_; }
  [[nodiscard]] Result<CredentialPtr> after_refusal(const Credential&, int, bool,
                                                    const std::string&) override {
    return CredentialPtr();
  }

 private:
  const CredentialPtr credential_;
};

}  // namespace upload::http
