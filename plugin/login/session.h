// SPDX-License-Identifier: BSD-3-Clause
//
// Session: one login, shared by all requests of an upstream.
//
//   - A request reads the credential from a snapshot that is swapped in one step: no request
//     waits for another, and no lock is held while somebody logs in.
//   - A login is single-flight. Whoever finds that the credential he has seen is the one
//     there is, and is not accepted any more, logs in; whoever finds that another does so,
//     waits and takes what comes of it. So any number of refusals of one credential make one
//     login.
//   - The keeper renews it at about two thirds of its life. When that fails, or nobody keeps
//     it, the first request after its end logs in.
//   - It is trusted until a server refuses it or its time is over. The end of a client is
//     nothing to it.
//
// A failed login is told to all who wait for it, and to whoever comes within a second.

#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/snapshot.h"
#include "http/credentials.h"
#include "login/login.h"

namespace upload::login {

class Session final : public http::Credentials {
 public:
  // `clock` outlives the session.
  Session(std::shared_ptr<Login> login, Clock& clock) : login_(std::move(login)), clock_(clock) {}

  [[nodiscard]] Result<http::CredentialPtr> current(const std::string& what) override
      EXCLUDES(mutex_);
  // 401: it is not valid any more. 403: the same, if its time is over, or may be.
  [[nodiscard]] Result<http::CredentialPtr> after_refusal(const http::Credential& refused,
                                                          int status, bool again,
                                                          const std::string& what) override
      EXCLUDES(mutex_);

  // When renew() is due; nothing: never, or whoever needs it will see to it.
  [[nodiscard]] std::optional<TimePoint> renewal_due() const;
  // Logs in, although the credential is still good.
  void renew() EXCLUDES(mutex_);

  // Ends a login under way; nobody logs in any more, but what there is may be used.
  void stop() EXCLUDES(mutex_);

 private:
  struct Issued;
  using IssuedPtr = std::shared_ptr<const Issued>;

  Result<http::CredentialPtr> log_in_after(const http::Credential* seen, const std::string& why)
      EXCLUDES(mutex_);
  Result<IssuedPtr> log_in() EXCLUDES(mutex_);
  void publish(const IssuedPtr& issued) REQUIRES(mutex_);
  void note_failure() REQUIRES(mutex_);
  [[nodiscard]] bool expired(const Issued& credential) const;
  [[nodiscard]] bool may_have_expired(const Issued& credential) const;

  const std::shared_ptr<Login> login_;
  Clock& clock_;

  // The snapshot; null: nobody has logged in yet.
  Snapshot<Issued> current_;
  // When the keeper is to renew it; TimePoint::max(): not at all.
  std::atomic<TimePoint> renewal_due_ = TimePoint::max();

  Mutex mutex_;
  CondVar ended_;  // logging_in_
  bool logging_in_ GUARDED_BY(mutex_) = false;
  uint64_t logins_ GUARDED_BY(mutex_) = 0;  // that have ended, well or not
  Status failure_ GUARDED_BY(mutex_);       // of the last; ok() if it was none
  TimePoint failed_at_ GUARDED_BY(mutex_);
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace upload::login
