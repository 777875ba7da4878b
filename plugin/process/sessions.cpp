// SPDX-License-Identifier: BSD-3-Clause
//
// The parameters of a login made into logins.

#include "process/sessions.h"

#include <utility>

#include "base/redact.h"
#include "login/token_request.h"
#include "login/token_script.h"
#include "target/target.h"

namespace upload {

namespace {

// Null: the parameters name none that needs no login.
http::CredentialPtr make_credential(const Config& config, const http::Url& url,
                                    const Clock& clock) {
  const Config::Access& access = config.access;
  if (access.has_login()) return nullptr;
  const std::string target = config.target == "auto" ? target::name_for(url) : config.target;
  if (!access.user.empty() && target::signs_requests(target))
    return target::make_signature(target, access.user, access.password, clock);
  if (!access.user.empty())
    return std::make_shared<http::FixedCredential>("Basic " +
                                                   base64(access.user + ":" + access.password));
  if (access.token.empty()) return nullptr;
  return std::make_shared<http::FixedCredential>("Bearer " + access.token);
}

}  // namespace

Sessions::Sessions(const Config& config, const Environment& environment)
    : config_(config), environment_(environment) {}

std::function<std::shared_ptr<http::Credentials>()> Sessions::credentials_for(
    const http::Url& url) {
  const Config::Access& access = config_.access;
  if (http::CredentialPtr credential = make_credential(config_, url, environment_.clock))
    return [credentials = std::make_shared<http::FixedCredentials>(std::move(credential))] {
      return credentials;
    };
  if (!access.has_login()) return {};
  if (!access.reuse_session) return [this, origin = url.origin()] { return make_own(origin); };
  MutexLock lock(mutex_);
  std::shared_ptr<login::Session>& session = shared_[url.origin()];
  if (!session) session = make_session();
  return [session] { return session; };
}

std::shared_ptr<login::Session> Sessions::shared_for(const http::Url& url) {
  MutexLock lock(mutex_);
  const auto found = shared_.find(url.origin());
  return found == shared_.end() ? nullptr : found->second;
}

// As the upload server, but for what is the latter's alone: the client certificate, the unix
// socket, the header fields.
std::shared_ptr<login::Session> Sessions::make_session() const {
  const Config::Access& access = config_.access;
  std::shared_ptr<login::Login> login;
  if (access.token_url) {
    auto origin = std::make_shared<http::Origin>();
    origin->url = *access.token_url;
    origin->ca_pem = config_.origin.ca_pem;
    origin->insecure = config_.origin.insecure;
    origin->proxy = config_.origin.proxy;
    origin->connect_timeout = config_.origin.connect_timeout;
    origin->timeout = config_.origin.timeout;
    login = std::make_shared<login::TokenRequest>(
        std::move(origin),
        login::OauthClient{access.client_id, access.client_secret, access.user, access.password,
                           access.scope},
        environment_.connect);
  } else {
    login = std::make_shared<login::TokenScript>(access.token_script, config_.origin.timeout);
  }
  return std::make_shared<login::Session>(std::move(login), environment_.clock);
}

std::shared_ptr<login::Session> Sessions::make_own(const std::string& origin) {
  auto session = make_session();
  MutexLock lock(mutex_);
  own_.remove_if([](const auto& other) { return other.second.expired(); });
  own_.emplace_back(origin, session);
  return session;
}

// Empty: those of all.
void Sessions::stop_those_of(const std::string& origin) {
  std::list<std::shared_ptr<login::Session>> sessions;
  {
    MutexLock lock(mutex_);
    for (const auto& [name, session] : shared_)
      if (origin.empty() || name == origin) sessions.push_back(session);
    for (const auto& [name, session] : own_)
      if (auto alive = session.lock(); alive && (origin.empty() || name == origin))
        sessions.push_back(std::move(alive));
  }
  for (const auto& session : sessions) session->stop();
}

}  // namespace upload
