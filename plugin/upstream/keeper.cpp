// SPDX-License-Identifier: BSD-3-Clause
//
// The keeper's loop. It sleeps until the connection that has been idle for
// longest is due, less up to a tenth of the idle time-out at random, lest the
// keepers of many disks flush in step. A connection that becomes idle later
// is due later, so nobody needs to wake the keeper but to stop it.
//
// What failures mean is not known here: a client's keep_alive() reports its own.

#include "upstream/keeper.h"

#include "base/log.h"
#include "base/random.h"

namespace upload::upstream {

Keeper::Keeper(Pool& pool, Duration idle_timeout, Clock& clock)
    : pool_(pool), idle_timeout_(idle_timeout), clock_(clock), thread_([this] { run(); }) {}

Keeper::~Keeper() {
  request_stop();
  join();
}

void Keeper::request_stop() {
  MutexLock lock(mutex_);
  stop_ = true;
  stop_requested_.notify_all();
}

void Keeper::join() {
  if (thread_.joinable()) thread_.join();
}

void Keeper::run() {
  UPLOAD_DEBUG(keeper, "keeper: started");
  for (;;) {
    const TimePoint next = keep_due_alive();
    MutexLock lock(mutex_);
    while (!stop_ && clock_.now() < next) clock_.wait_until(stop_requested_, mutex_, next);
    if (stop_) break;
  }
  UPLOAD_DEBUG(keeper, "keeper: stopped");
}

TimePoint Keeper::keep_due_alive() {
  const Duration due_after = this->due_after();
  const TimePoint now = clock_.now();
  // At most one round: a connection served is idle since now.
  while (std::optional<Lease> lease = pool_.lease_idle(now - due_after)) {
    const auto id = static_cast<unsigned long long>(lease->id());
    if (lease->closed()) {
      UPLOAD_DEBUG(keeper, "keeper: connection %llu was closed by the server", id);
      lease->retire(lease->why_closed());
    } else {
      UPLOAD_DEBUG(keeper, "keeper: connection %llu is idle, keeping it alive", id);
      pool_.keep_alive(*lease);
    }
    MutexLock lock(mutex_);
    if (stop_) break;
  }
  return pool_.idle_since().value_or(now) + due_after;
}

Duration Keeper::due_after() const {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(idle_timeout_) *
                                              random_between(0.9, 1));
}

}  // namespace upload::upstream
