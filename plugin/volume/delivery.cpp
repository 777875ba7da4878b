// SPDX-License-Identifier: BSD-3-Clause
//
// Each attempt begins with a look at what may have changed since the last one.

#include "volume/delivery.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <utility>

namespace upload::volume {

Delivery::Outcome Delivery::deliver(std::optional<upstream::Lease>& lease, Status status,
                                    const Pieces& pieces, Purpose purpose, Purpose repeated) {
  Retry retry = mode_.make_retry(repeated);
  for (;;) {
    const bool connected = lease.has_value();
    if (connected) lease->replace_if_closed();
    const Obstacle obstacle = find_obstacle(pieces);
    if (obstacle == Obstacle::kFallback) return {.to_fallback = true};
    if (connected && obstacle == Obstacle::kDoubt) {
      // Not with a connection that others may wait for.
      lease.reset();
      if (Status refused = mode_.may_wait_in_doubt(); !refused.ok()) return {.status = refused};
    } else {
      if (connected)
        status = obstacle == Obstacle::kLatched ? core_.latched() : send(*lease, pieces, purpose);
      if (connected && status.ok()) return {};
      lease.reset();
      switch (mode_.after_failure(retry, status)) {
        case Mode::Next::kFallback: return {.to_fallback = true};
        case Mode::Next::kGiveUp:
          return {.status = mode_.given_up(status), .no_connection = !connected};
        case Mode::Next::kTryAgain: break;
      }
    }
    if (Status waited = wait_in_doubt(pieces); !waited.ok()) {
      if (repeated == Purpose::kChange) return {.status = mode_.given_up(waited)};
      status = waited;  // what was acknowledged is given up when the mode says so
      continue;
    }
    if (find_obstacle(pieces) == Obstacle::kFallback) return {.to_fallback = true};
    Result<upstream::Lease> other = core_.lease();
    if (other.ok())
      lease = std::move(other.value());
    else
      status = other.status();
  }
}

Delivery::Outcome Delivery::attempt(upstream::Lease& lease, const Pieces& pieces,
                                    Purpose purpose) {
  lease.replace_if_closed();
  switch (find_obstacle(pieces)) {
    case Obstacle::kNone: return {.status = send(lease, pieces, purpose)};
    case Obstacle::kLatched: return {.status = core_.latched()};
    case Obstacle::kFallback: return {.to_fallback = true};
    case Obstacle::kDoubt: return {.status = unknown_fate()};
  }
  std::abort();
}

// What keeps the pieces from being sent now. An error that has latched comes first: nothing
// goes anywhere after it.
Delivery::Obstacle Delivery::find_obstacle(const Pieces& pieces) {
  MutexLock lock(core_.mutex);
  if (core_.health.latched()) return Obstacle::kLatched;
  if (core_.belongs_into_spool(range_of(pieces))) return Obstacle::kFallback;
  if (core_.in_doubt(pieces)) return Obstacle::kDoubt;
  return Obstacle::kNone;
}

// Until no copies of other changes can come to where these go, or changes go into the
// fallback. A failure: they may come yet, and it is not waited for any longer.
Status Delivery::wait_in_doubt(const Pieces& pieces) {
  MutexLock lock(core_.mutex);
  const TimePoint start = core_.clock.now();
  while (const std::optional<TimePoint> doubt = core_.in_doubt(pieces)) {
    if (core_.spool_state == SpoolState::kSpooling) break;
    const TimePoint give_up = mode_.give_up_waiting_at(core_.waiting_since(start));
    if (core_.health.over() || core_.clock.now() >= give_up) return unknown_fate();
    core_.wait_for(core_.state_changed, std::min(*doubt, give_up));
  }
  return {};
}

Status Delivery::unknown_fate() const {
  return {Kind::kUnavailable,
          core_.options.name +
              ": an earlier change here failed, and the server, which has not "
              "answered since, may still be applying it"};
}

// Never throws: others wait for it.
Status Delivery::send(upstream::Lease& lease, const Pieces& pieces, Purpose purpose) {
  try {
    return exchange_.change(lease, pieces, purpose);
  } catch (const std::exception&) {
    // Whatever was sent or not.
    const Status status(Kind::kNoMemory, "out of memory");
    exchange_.apply_verdict(lease, Purpose::kStableChange, status, &pieces);
    return status;
  }
}

}  // namespace upload::volume
