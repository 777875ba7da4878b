// SPDX-License-Identifier: BSD-3-Clause
//
// SingleRequests: requests that have a connection of their own each, for those who ask seldom and
// are not to keep a connection through nbdkit's fork; and that another thread can bring to an end.
//
// perform() belongs to one thread at a time; the rest is thread safe.

#pragma once

#include <memory>

#include "base/mutex.h"
#include "http/connection.h"
#include "http/origin.h"

namespace upload::http {

class SingleRequests {
 public:
  explicit SingleRequests(Connector connect) : connect_(std::move(connect)) {}

  // Connection::perform(), over a new connection, which is closed when it returns. kShutdown: it
  // was interrupted before.
  Result<Reply> perform(const std::shared_ptr<const Origin>& origin, const Request& request)
      EXCLUDES(mutex_);

  // Makes a request that is under way fail soon, and later ones at once, until resume().
  void interrupt() EXCLUDES(mutex_);
  void resume() EXCLUDES(mutex_);

 private:
  class UnderWay;

  const Connector connect_;

  Mutex mutex_;
  Connection* connection_ GUARDED_BY(mutex_) = nullptr;  // of a request under way
  bool interrupted_ GUARDED_BY(mutex_) = false;
};

}  // namespace upload::http
