// SPDX-License-Identifier: BSD-3-Clause
//
// A flush waits for what is to be sent again, flushes dirty connections side by side, and looks
// again, until nothing is left.

#include "volume/flusher.h"

#include <algorithm>
#include <exception>
#include <optional>

#include "base/log.h"
#include "base/process_stop.h"
#include "base/thread.h"

namespace upload::volume {

Status Flusher::flush() {
  uint64_t covered = 0;
  {
    MutexLock lock(core_.mutex);
    covered = core_.changes_acknowledged;
  }
  Status status = flush_acknowledged();
  // Also where nothing had to be sent.
  if (Status fenced = core_.options.check_fence(); status.ok() && !fenced.ok()) {
    core_.latch(fenced);
    status = core_.latched_or(fenced);
  }
  if (!status.ok()) return status;
  MutexLock lock(core_.mutex);
  core_.changes_flushed = std::max(core_.changes_flushed, covered);
  core_.flushed = true;
  return status;
}

Status Flusher::flush_acknowledged() {
  const TimePoint start = core_.clock.now();
  uint64_t acknowledged = 0;
  {
    MutexLock lock(core_.mutex);
    acknowledged = core_.unflushed.log.acknowledged();
  }
  std::optional<Retry> retry;
  for (;;) {
    const auto connections = connections_to_flush(acknowledged, start);
    if (!connections.ok()) return connections.status();
    if (connections.value().empty()) return check_fallback();
    const Flushed flushed = flush_connections(connections.value());
    if (flushed.any) retry.reset();
    if (flushed.failure.ok()) continue;
    // What it covered is on its way to another one.
    if (!retry) retry.emplace(mode_.make_retry(Purpose::kFlush));
    if (mode_.after_failure(*retry, flushed.failure) == Mode::Next::kGiveUp)
      return mode_.given_up(flushed.failure);
  }
}

// Waits while there is more than flushes to wait for. None: all of it is stable.
Result<std::vector<ConnectionId>> Flusher::connections_to_flush(uint64_t acknowledged,
                                                                TimePoint start) {
  MutexLock lock(core_.mutex);
  LastLook last_look;
  for (;;) {
    if (core_.health.latched()) return *core_.health.latched();
    if (!core_.must_wait(acknowledged))
      return core_.spool_state == SpoolState::kSpooling
                 ? std::vector<ConnectionId>()
                 : core_.unflushed.log.to_flush(acknowledged);
    if (core_.health.stopping()) return Status(Kind::kShutdown, "the plugin is shutting down");
    // The threads behind see to it, or latch.
    const TimePoint give_up = core_.give_up_on_spool_at(start);
    const auto until = last_look.wait_until(give_up, core_.clock.now());
    if (!until) return core_.waited_for_spool("flush");
    const auto waiting = core_.waiting_flushes.insert(acknowledged);
    core_.send_work.notify_one();
    core_.wait_for(core_.became_stable, *until);
    core_.waiting_flushes.erase(waiting);
  }
}

// A flush takes a server long, or the way to it: each connection has a thread of its own, the
// last the caller's. None of them holds more than its one lease, so that they can't wait for
// each other.
Flusher::Flushed Flusher::flush_connections(const std::vector<ConnectionId>& ids) {
  std::vector<Status> results(ids.size());
  const auto flush = [&](size_t i) { results[i] = flush_connection(ids[i]); };
  std::vector<Thread> threads;
  threads.reserve(ids.size());
  size_t started = 0;
  try {
    for (; started + 1 < ids.size(); ++started)
      threads.emplace_back([&flush, i = started] { flush(i); });
  } catch (const std::exception& error) {
    UPLOAD_DEBUG(journal, "%zu of %zu connections are flushed one by one: %s",
                 ids.size() - started, ids.size(), error.what());
  }
  for (size_t i = started; i < ids.size(); ++i) flush(i);
  for (Thread& thread : threads) thread.join();
  Flushed flushed;
  for (const Status& result : results) {
    flushed.any = flushed.any || result.ok();
    if (flushed.failure.ok()) flushed.failure = result;
  }
  return flushed;
}

Status Flusher::flush_connection(ConnectionId id) noexcept {
  Result<upstream::Lease> lease = core_.share.lease(id);
  {
    MutexLock lock(core_.mutex);
    if (core_.health.latched()) return *core_.health.latched();
    // Another flush covered it; after that it may even have been closed.
    if (!core_.unflushed.log.is_dirty(id)) return {};
  }
  if (!lease.ok()) return lease.status().while_doing(core_.options.name + ": could not flush");
  return exchange_.flush(lease.value(), Purpose::kFlush);
}

// What is in the fallback counts as stable only where the next start finds it.
Status Flusher::check_fallback() {
  {
    MutexLock lock(core_.mutex);
    if (!core_.options.spool_local || core_.unflushed.rows().empty()) return {};
  }
  const Status status = fallback_.check();
  if (!status.ok()) core_.latch(status);
  return status.while_doing(core_.options.name);
}

void Flusher::make_room() {
  std::vector<ConnectionId> connections;
  {
    MutexLock lock(core_.mutex);
    connections = core_.unflushed.log.to_flush(core_.unflushed.log.acknowledged());
  }
  flush_connections(connections);
}

}  // namespace upload::volume
