// SPDX-License-Identifier: BSD-3-Clause
//
// Delivery: brings one request to the server, however often that has to be tried.
//
// Before each attempt it looks for what keeps the request from being sent: an error that has
// latched, the fallback, copies of other changes that may come late. What a failure means is the
// mode's to say.
//
// Thread safe. The caller has the range of the request to himself (ChangeQueue), from before the
// first attempt on.

#pragma once

#include <optional>

#include "base/status.h"
#include "upstream/lease.h"
#include "volume/core.h"
#include "volume/exchange.h"
#include "volume/mode.h"
#include "volume/pieces.h"

namespace upload::volume {

class Delivery {
 public:
  // All outlive it.
  Delivery(Core& core, Mode& mode, Exchange& exchange)
      : core_(core), mode_(mode), exchange_(exchange) {}

  // How the attempts end.
  struct Outcome {
    Status status{};
    bool to_fallback = false;    // it is not sent, and belongs there
    bool no_connection = false;  // it was given up because there is none
  };
  // One request of the pieces, which are adjacent, first with that lease; if there is none,
  // `no_lease` says why. On success the lease is of the connection that carried it. `purpose`:
  // kChange or kStableChange. `repeated`: whether a failure passes is looked up for that purpose,
  // kChange or, for what was acknowledged before, kResend.
  Outcome deliver(std::optional<upstream::Lease>& lease, Status no_lease, const Pieces& pieces,
                  Purpose purpose, Purpose repeated) EXCLUDES(core_.mutex);

  // One attempt, with a lease that there is.
  Outcome attempt(upstream::Lease& lease, const Pieces& pieces, Purpose purpose)
      EXCLUDES(core_.mutex);

  // What a change fails with that was not sent because of late copies of others.
  [[nodiscard]] Status unknown_fate() const;

 private:
  enum class Obstacle { kNone, kLatched, kFallback, kDoubt };

  Obstacle find_obstacle(const Pieces& pieces) EXCLUDES(core_.mutex);
  Status wait_in_doubt(const Pieces& pieces) EXCLUDES(core_.mutex);
  Status send(upstream::Lease& lease, const Pieces& pieces, Purpose purpose)
      EXCLUDES(core_.mutex);

  Core& core_;
  Mode& mode_;
  Exchange& exchange_;
};

}  // namespace upload::volume
