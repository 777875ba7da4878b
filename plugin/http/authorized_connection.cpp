// SPDX-License-Identifier: BSD-3-Clause
//
// The decorator, and the connector that makes it.

#include "http/authorized_connection.h"

#include <utility>

#include "http/credentials.h"
#include "http/origin.h"

namespace upload::http {

namespace {

constexpr int kUnauthorized = 401;
// Of one request. More than two are made only where a token expires on its way, since the
// process, or the link, was stopped just then.
constexpr int kMostAttempts = 5;
constexpr int kForbidden = 403;  // what some servers answer to a token that has expired

class AuthorizedConnection final : public Connection {
 public:
  AuthorizedConnection(std::unique_ptr<Connection> connection,
                       std::shared_ptr<Credentials> credentials, ConnectionEvents events)
      : connection_(std::move(connection)),
        credentials_(std::move(credentials)),
        events_(std::move(events)) {}

  Result<Reply> perform(const Request& request) override {
    Result<CredentialPtr> credential = credentials_->current(request.what);
    if (!credential.ok()) return credential.status();
    for (int attempt = 1;; ++attempt) {
      if (events_.progress) events_.progress();  // a login may have taken its time
      Result<Reply> reply = perform_showing(*credential.value(), request);
      if (attempt == kMostAttempts || !reply.ok() || !is_refusal(reply.value())) return reply;
      Result<CredentialPtr> other = credentials_->after_refusal(
          *credential.value(), reply.value().status, attempt > 1, request.what);
      if (other.ok() && other.value() == nullptr) return reply;
      if (!other.ok()) return other.status();
      if (reply.value().last)
        return Status(Kind::kLoggedOut, "the server refused the login (HTTP status " +
                                            std::to_string(reply.value().status) +
                                            ") and closed the connection");
      credential = std::move(other);
    }
  }

  [[nodiscard]] bool unopened() const override { return connection_->unopened(); }
  [[nodiscard]] bool closed() const override { return connection_->closed(); }
  [[nodiscard]] Status why_closed() const override { return connection_->why_closed(); }
  void abort() override { connection_->abort(); }

 private:
  static bool is_refusal(const Reply& reply) {
    return reply.status == kUnauthorized || reply.status == kForbidden;
  }

  Result<Reply> perform_showing(const Credential& credential, const Request& request) {
    Request shown = request;
    credential.authorize(shown);
    return connection_->perform(shown);
  }

  const std::unique_ptr<Connection> connection_;
  const std::shared_ptr<Credentials> credentials_;
  const ConnectionEvents events_;
};

}  // namespace

Connector authorized(Connector plain) {
  return [plain = std::move(plain)](std::shared_ptr<const Origin> origin, ConnectionId id,
                                    ConnectionEvents events) -> std::unique_ptr<Connection> {
    const auto make_credentials = origin->make_credentials;
    auto connection = plain(std::move(origin), id, events);
    if (!make_credentials) return connection;
    return std::make_unique<AuthorizedConnection>(std::move(connection), make_credentials(),
                                                  std::move(events));
  };
}

}  // namespace upload::http
