// SPDX-License-Identifier: BSD-3-Clause
//
// Sessions: which credentials the requests to an origin show, as the parameters say: none, the
// same for ever, or those of a login; and the logins there are, to end them.
//
// Thread safe once it is made.

#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "http/credentials.h"
#include "http/url.h"
#include "login/session.h"
#include "process/config.h"
#include "process/environment.h"

namespace upload {

class Sessions {
 public:
  // Both outlive it. The environment's connections show what their origin says.
  Sessions(const Config& config, const Environment& environment);

  // For http::Origin::make_credentials of that URL's origin.
  [[nodiscard]] std::function<std::shared_ptr<http::Credentials>()> credentials_for(
      const http::Url& url) EXCLUDES(mutex_);
  // The one session of that URL's origin; null: there is none, or each connection has its own.
  [[nodiscard]] std::shared_ptr<login::Session> shared_for(const http::Url& url) EXCLUDES(mutex_);

  // Ends logins under way, and lets nobody log in any more; at that URL's origin, or anywhere.
  void stop(const http::Url& url) EXCLUDES(mutex_) { stop_those_of(url.origin()); }
  void stop() EXCLUDES(mutex_) { stop_those_of(""); }

 private:
  [[nodiscard]] std::shared_ptr<login::Session> make_session() const;
  std::shared_ptr<login::Session> make_own(const std::string& origin) EXCLUDES(mutex_);
  void stop_those_of(const std::string& origin) EXCLUDES(mutex_);

  const Config& config_;
  const Environment& environment_;

  Mutex mutex_;
  // By origin.
  std::map<std::string, std::shared_ptr<login::Session>> shared_ GUARDED_BY(mutex_);
  // Of single connections, which end with them.
  std::list<std::pair<std::string, std::weak_ptr<login::Session>>> own_ GUARDED_BY(mutex_);
};

}  // namespace upload
