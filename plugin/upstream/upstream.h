// SPDX-License-Identifier: BSD-3-Clause
//
// Upstream: what all volumes of one origin share: a pool, a keeper, and a session.
//
// Not thread safe but for what its parts are; one thread makes and ends it.

#pragma once

#include <algorithm>
#include <memory>

#include "http/connection.h"
#include "http/origin.h"
#include "login/session.h"
#include "upstream/keeper.h"
#include "upstream/pool.h"

namespace upload::upstream {

class Upstream {
 public:
  // At most so many connections. `overlap`: see PoolOptions. `session`: what the keeper renews;
  // may be null. `clock` outlives the upstream.
  Upstream(std::shared_ptr<const http::Origin> origin, const http::Connector& connect,
           std::shared_ptr<login::Session> session, unsigned connections, bool overlap,
           Duration idle_timeout, Clock& clock)
      : origin_(std::move(origin)),
        pool_(
            {connections, origin_->connect_timeout, origin_->timeout, overlap},
            [connect, origin = origin_](ConnectionId id, http::ConnectionEvents events) {
              return connect(origin, id, std::move(events));
            },
            clock),
        session_(std::move(session)),
        idle_timeout_(idle_timeout),
        clock_(clock) {}

  // The same server, by the same way: all else that an origin has is the same for all
  // volumes of the process.
  [[nodiscard]] bool leads_to(const http::Origin& other) const {
    return origin_->url.origin() == other.url.origin() &&
           origin_->unix_socket == other.unix_socket;
  }

  [[nodiscard]] Pool& pool() { return pool_; }
  // Of the server, or of its socket: no other upstream of the process has it.
  [[nodiscard]] std::string name() const { return origin_->name(); }

  // When there is a volume whose ticket may need it. Repeatable.
  void start_keeper() {
    if (!keeper_) keeper_ = std::make_unique<Keeper>(pool_, session_, idle_timeout_, clock_);
  }

  // Ends requests under way and all connections, and the keeper.
  void request_stop() {
    if (keeper_) keeper_->request_stop();
  }
  void stop() {
    pool_.close();
    keeper_.reset();
  }

 private:
  const std::shared_ptr<const http::Origin> origin_;
  Pool pool_;
  const std::shared_ptr<login::Session> session_;
  const Duration idle_timeout_;
  Clock& clock_;
  std::unique_ptr<Keeper> keeper_;
};

}  // namespace upload::upstream
