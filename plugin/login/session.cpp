// SPDX-License-Identifier: BSD-3-Clause
//
// The snapshot, and who logs in.
//
// A life time is counted by two clocks: the monotonic one stands still while the machine is
// suspended, and the time of day may be set. The token is old when either says so, which
// costs at most a login too many.

#include "login/session.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/log.h"
#include "base/random.h"
#include "base/redact.h"

namespace upload::login {

namespace {

// Those who come so soon after a login has failed are told of that failure: a server that
// is down, or counts wrong passwords, is not asked by each of many threads.
constexpr Duration kFailureHolds = std::chrono::seconds(1);
// A token that lasts less is not renewed before somebody needs it: else an idle process would
// do nothing but log in.
constexpr Duration kShortestRenewed = std::chrono::seconds(1);
// A token of which no life time is known may have expired after so long.
constexpr Duration kShortestUnknownLife = std::chrono::minutes(1);

Duration part_of(Duration time, double part) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(time) * part);
}

}  // namespace

struct Session::Issued final : http::FixedCredential {
  Issued(const Token& token, TimePoint began, WallTime began_wall)
      : FixedCredential("Bearer " + token.text),
        life(token.life),
        expires(began + life.value_or(kShortestUnknownLife)),
        expires_wall(began_wall + std::chrono::duration_cast<WallTime::duration>(
                                      life.value_or(kShortestUnknownLife))) {}

  const std::optional<Duration> life;
  // If that is not known: when it may have expired, for all we know.
  const TimePoint expires;
  const WallTime expires_wall;
};

bool Session::may_have_expired(const Issued& credential) const {
  return clock_.now() >= credential.expires || clock_.wall_now() >= credential.expires_wall;
}

bool Session::expired(const Issued& credential) const {
  return credential.life && may_have_expired(credential);
}

Result<http::CredentialPtr> Session::current(const std::string& what) {
  const IssuedPtr now = current_.load();
  if (now == nullptr) return log_in_after(nullptr, "nobody has yet, for: " + what);
  if (expired(*now)) return log_in_after(now.get(), "the token has expired, for: " + what);
  return http::CredentialPtr(now);
}

Result<http::CredentialPtr> Session::after_refusal(const http::Credential& refused, int status,
                                                   bool again, const std::string& what) {
  constexpr int kForbidden = 403;
  const IssuedPtr now = current_.load();
  if (now.get() != &refused) return http::CredentialPtr(now);
  if ((status == kForbidden || again) && !may_have_expired(*now)) return http::CredentialPtr();
  return log_in_after(&refused, "HTTP status " + std::to_string(status) + " to: " + what);
}

std::optional<TimePoint> Session::renewal_due() const {
  const TimePoint due = renewal_due_;
  return due == TimePoint::max() ? std::nullopt : std::optional(due);
}

void Session::renew() {
  const IssuedPtr now = current_.load();
  if (now == nullptr || clock_.now() < renewal_due_.load()) return;
  (void)log_in_after(now.get(), "two thirds of the token's life are over").ok();
}

void Session::stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
  }
  login_->stop();
}

// Another credential than `seen`; null: any. Logs in unless somebody has done so, or does.
Result<http::CredentialPtr> Session::log_in_after(const http::Credential* seen,
                                                  const std::string& why) {
  {
    MutexLock lock(mutex_);
    const uint64_t ended = logins_;
    while (logging_in_ && logins_ == ended) ended_.wait(mutex_);
    const IssuedPtr now = current_.load();
    if (now.get() != seen) return http::CredentialPtr(now);
    if (stopped_) return Status(Kind::kLogin, "the plugin is shutting down");
    const bool just_failed = !failure_.ok() && clock_.now() < failed_at_ + kFailureHolds;
    if (logins_ != ended || just_failed) return failure_;
    logging_in_ = true;
    renewal_due_ = TimePoint::max();  // until its end tells when
  }
  UPLOAD_DEBUG(session, "session: logging in: %s", why.c_str());
  const Result<IssuedPtr> issued = log_in();
  if (!issued.ok()) UPLOAD_DEBUG(session, "session: %s", issued.status().text().c_str());
  MutexLock lock(mutex_);
  logging_in_ = false;
  ++logins_;
  ended_.notify_all();
  failure_ = issued.status();
  if (issued.ok())
    publish(issued.value());
  else
    note_failure();
  if (!issued.ok()) return issued.status();
  return http::CredentialPtr(issued.value());
}

// Without the mutex. Never throws: others wait for its end.
Result<Session::IssuedPtr> Session::log_in() {
  try {
    const TimePoint began = clock_.now();
    const WallTime began_wall = clock_.wall_now();
    const Result<Token> token = login_->log_in();
    if (!token.ok()) return Status(Kind::kLogin, "could not log in: " + token.status().text());
    register_passing_secret(token.value().text);
    return std::make_shared<const Issued>(token.value(), began, began_wall);
  } catch (const std::exception&) {
    return Status(Kind::kLogin, "could not log in: out of memory");
  }
}

void Session::publish(const IssuedPtr& issued) {
  current_.store(issued);
  if (!issued->life) {
    UPLOAD_DEBUG(session, "session: logged in, until the server says otherwise");
    renewal_due_ = TimePoint::max();
    return;
  }
  UPLOAD_DEBUG(session, "session: logged in, for %lld seconds", seconds(*issued->life));
  if (*issued->life < kShortestRenewed) {
    renewal_due_ = TimePoint::max();
    return;
  }
  renewal_due_ = issued->expires - part_of(*issued->life, 1.0 / 3 + random_between(0, 1.0 / 15));
}

// While the credential there is lasts, the keeper tries again, more and more often.
void Session::note_failure() {
  failed_at_ = clock_.now();
  renewal_due_ = TimePoint::max();
  const IssuedPtr old = current_.load();
  if (old == nullptr || !old->life || old->expires <= failed_at_) return;
  renewal_due_ = failed_at_ + std::max<Duration>((old->expires - failed_at_) / 3, kFailureHolds);
}

}  // namespace upload::login
