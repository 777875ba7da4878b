// SPDX-License-Identifier: BSD-3-Clause
//
// Failures: what a failed request, or a lost connection, means for everything
// else (invariants 2, 4, 6 and 7): the connection is retired, the error
// latches or the replay log takes over, and the range is left alone while the
// server may still be at it.

#include <algorithm>

#include "base/log.h"
#include "volume/volume.h"

namespace upload::volume {

namespace {

// Not under a mutex: standard error may block.
void warn_latched(const Status& status) {
  log::warning("every request fails from now on: %s", status.text().c_str());
}

}  // namespace

// What a failed request means beyond itself.
void Volume::judge(pool::Lease& lease, Purpose purpose,
                   const Status& failure) noexcept {
  const bool flushes = purpose == Purpose::kFlush || purpose == Purpose::kKeepAlive;
  switch (failure.kind()) {
    case Kind::kLost:
    case Kind::kMalformed:
    case Kind::kGateway:  // what the proxy had behind this connection is gone
      lease.retire(failure);
      break;
    case Kind::kServerError:
      // The server's storage client may be dead.
      lease.retire(failure);
      if (purpose != Purpose::kRead && !replays()) latch(failure);
      break;
    case Kind::kDenied:
      latch(failure);
      break;
    default: break;
  }
  // What a flush that failed covered may be gone (invariant 4), whatever the
  // status says; a change that was to be stable ends in a flush.
  if (flushes || purpose == Purpose::kStableChange) lease.retire(failure);
  if (flushes && !replays()) latch(failure);
}

// A ticket that is denied, where the server may have forgotten it in a restart, is
// an outage like any other, for a while. A server that can't be reached is in
// another outage, after which it may have forgotten the ticket again; a connection
// that is lost says less, since one who denies may close it before he has read all.
Status Volume::unless_forgotten(Status failure) {
  if (options_.denied_wait == Duration::zero()) return failure;
  if (failure.kind() == Kind::kConnect) {
    MutexLock lock(mutex_);
    denied_since_.reset();
  }
  if (failure.kind() != Kind::kDenied) return failure;
  const TimePoint now = clock_.now();
  MutexLock lock(mutex_);
  const bool lost = connection_lost_ &&
                    now - *connection_lost_ <= options_.denied_wait + options_.retry_time;
  if (!lost) return failure;
  if (!denied_since_ || *denied_since_ < last_success_.load()) denied_since_ = now;
  const Duration denied = now - *denied_since_;
  if (denied >= options_.denied_wait)
    return {Kind::kDenied, failure.text() + format(" (waited for %lld seconds, denied-wait=)",
                                                   seconds(denied))};
  return {Kind::kUnavailable,
          failure.text() + format(" (waiting for up to %lld seconds, denied-wait=)",
                                  seconds(options_.denied_wait))};
}

void Volume::connection_lost(http::ConnectionId id, const Status& why) {
  const Status status =
      why.while_doing(options_.name + ": a connection with unflushed changes was lost");
  {
    // One step: a flush in between would find nothing dirty and no error.
    MutexLock lock(mutex_);
    connection_lost_ = clock_.now();
    if (!log_.lost(id) || latched_) return;
    if (replays()) {
      wake_all();  // what hides its content is to be flushed now
      if (!log_.has_orphans()) return;
      wake_workers();
    } else {
      set_latched(status);
    }
  }
  if (replays())
    note_outage(status);
  else
    warn_latched(status);
}

void Volume::latch(const Status& why) {
  // A text of its own: it is repeated long after the request it comes from.
  const bool named = why.text().compare(0, options_.name.size(), options_.name) == 0;
  const Status status = named ? why : why.while_doing(options_.name);
  {
    MutexLock lock(mutex_);
    // At the end everything fails, and nothing follows from it.
    if (latched_ || stopping_) return;
    set_latched(status);
  }
  warn_latched(status);
}

// Whoever waits for anything learns it.
void Volume::set_latched(const Status& status) {
  latched_ = status;
  finish(queue_.waiting(), status);
  wake_all();
  wake_workers();
}

// Changes of those ranges have failed, and the server may be applying them
// yet. With a replay log they are repeated, which changes nothing; others wait
// as long as the server might take. Without one others fail meanwhile.
void Volume::shun(const Pieces& pieces) {
  constexpr size_t kMost = 1000;
  bool too_many = false;
  {
    MutexLock lock(mutex_);
    const TimePoint now = clock_.now();
    if (replays())
      for (const Piece& piece : pieces)
        late_copies_.add(piece.range, piece.change, piece.change, now);
    else
      late_copies_.add(range_of(pieces), pieces.front().change, pieces.back().change, now);
    has_unknown_copies_ = true;
    too_many = !replays() && late_copies_.count() > kMost;
  }
  if (too_many) latch({Kind::kLost, "too many changes have failed"});
}

void Volume::note_answer(TimePoint began) {
  if (!has_unknown_copies_) return;
  MutexLock lock(mutex_);
  if (!late_copies_.answered(began, clock_.now())) return;
  has_unknown_copies_ = late_copies_.any_unknown();
  changed_.notify_all();
  wake_workers();
}

// Until when copies of other changes may come to where these go.
std::optional<TimePoint> Volume::in_doubt(const Pieces& pieces) {
  std::optional<TimePoint> latest;
  for (const Piece& piece : pieces) {
    const auto until = late_copies_.until(piece.range, piece.change, clock_.now());
    if (until && (!latest || *until > *latest)) latest = until;
  }
  return latest;
}

std::optional<TimePoint> Volume::late_copies_may_come() {
  MutexLock lock(mutex_);
  return late_copies_.last(clock_.now());
}

Status Volume::latched() const {
  MutexLock lock(mutex_);
  return latched_.value_or(Status());
}

Status Volume::latched_or(const Status& status) const {
  MutexLock lock(mutex_);
  if (!latched_ && stopping_ && !status.ok())
    return {Kind::kShutdown, status.text() + " (nbdkit is to end)"};
  return latched_.value_or(status);
}

}  // namespace upload::volume
