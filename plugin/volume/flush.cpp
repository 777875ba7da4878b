// SPDX-License-Identifier: BSD-3-Clause
//
// Flush: every change that was acknowledged before it is made stable
// (invariant 5), by a flush on each connection that carried one of them.
// With a replay log it goes on until that is so, whatever is lost meanwhile.
//
// Where the server's reply means stable (Durability::kOnReply) no connection is ever
// dirty: a flush then sends nothing, and waits for what is in the spool only.

#include <algorithm>

#include "base/log.h"
#include "volume/volume.h"

namespace upload::volume {

// --- Who waits for what ---------------------------------------------------

void Volume::wait_for(CondVar& reason, TimePoint until) {
  if (until == TimePoint::max()) return reason.wait(mutex_);
  clock_.wait_until(reason, mutex_, until);
  note_late_waking(until);
}

// After an error, a change of the state, or the end.
void Volume::wake_all() {
  for (CondVar* reason : {&changed_, &stable_, &room_}) reason->notify_all();
}

// After anything else that may be what somebody waits for. This is called for each
// acknowledgement, and wakes nobody who would only find that there is more to wait
// for: a flush that covers less, or a change that wants less room, waits no longer
// than others, so only the least of each has to be asked about.
void Volume::wake_waiting() {
  if (!waiting_flushes_.empty() && !must_wait(*waiting_flushes_.begin())) stable_.notify_all();
  if (waits_for_spool_ && !spool_is_busy()) stable_.notify_all();
  if (!waiting_for_room_.empty() && has_room_for(*waiting_for_room_.begin())) room_.notify_all();
}

// There may be work for the threads behind.
void Volume::wake_workers() {
  recovery_work_.notify_one();
  spool_work_.notify_one();
}

// --- Flush ----------------------------------------------------------------

Status Volume::flush() {
  const TimePoint start = clock_.now();
  uint64_t last = 0;
  {
    MutexLock lock(mutex_);
    last = log_.last_sequence();
  }
  std::optional<Retry> retry;
  for (;;) {
    const auto connections = connections_to_flush(last, start);
    if (!connections.ok()) return connections.status();
    if (connections.value().empty()) return check_spool();
    for (const http::ConnectionId id : connections.value()) {
      const Status status = flush_connection(id);
      if (status.ok()) {
        retry.reset();
        continue;
      }
      if (!replays()) return status;
      if (!retry) retry.emplace(make_retry());
      if (wait_to_retry(*retry, status, Purpose::kFlush) == Next::kGiveUp)
        return latched_or(status);
      break;  // what it covered is on its way to another one
    }
  }
}

// What is in the spool counts as stable only where the next start finds it.
Status Volume::check_spool() {
  {
    MutexLock lock(mutex_);
    if (!options_.spool_local || rows_.empty()) return {};
  }
  const Status status = options_.spool->check();
  if (!status.ok()) latch(status);
  return status.while_doing(options_.name);
}

// Is anything up to `last` unstable that needs no flush but to be sent again, or
// to get into the spool?
bool Volume::must_wait(uint64_t last) const {
  using Wait = journal::ReplayLog::Wait;
  if (!options_.spool_local && log_.waits_for(Wait::kRows, last)) return true;
  // While spooling, all that is in memory moves to the spool.
  return log_.waits_for(state_ == State::kSpooling ? Wait::kMemory : Wait::kOrphans, last);
}

// Waits while it must. None: all up to `last` is stable.
Result<std::vector<http::ConnectionId>> Volume::connections_to_flush(uint64_t last,
                                                                     TimePoint start) {
  MutexLock lock(mutex_);
  for (;;) {
    if (latched_) return *latched_;
    if (!must_wait(last))
      return state_ == State::kSpooling ? std::vector<http::ConnectionId>()
                                        : log_.to_flush(last);
    if (stopping_) return Status(Kind::kShutdown, "the plugin is shutting down");
    // The threads behind see to it, or latch.
    if (clock_.now() >= patience(start)) return out_of_patience("flush");
    const auto waiting = waiting_flushes_.insert(last);
    wait_for(stable_, patience(start));
    waiting_flushes_.erase(waiting);
  }
}

Status Volume::flush_connection(http::ConnectionId id) {
  Result<pool::Lease> lease = pool_.lease(id);
  {
    MutexLock lock(mutex_);
    if (latched_) return *latched_;
    // Another flush covered it; after that it may even have been closed.
    if (!log_.is_dirty(id)) return {};
  }
  if (!lease.ok()) return lease.status().while_doing(options_.name + ": could not flush");
  return flush_lease(lease.value(), Purpose::kFlush);
}

Status Volume::ask_flush(pool::Lease& lease) {
  const Result<http::Reply> reply = lease.perform(options_.target->flush());
  return unless_forgotten(reply.ok() ? options_.target->check_change(reply.value())
                                     : reply.status());
}

// A question that changes nothing.
Status Volume::ask_options(pool::Lease& lease) {
  const Result<http::Reply> reply = lease.perform(options_.target->options());
  return unless_forgotten(reply.ok() ? options_.target->read_options(reply.value()).status()
                                     : reply.status());
}

Status Volume::flush_lease(pool::Lease& lease, Purpose purpose) noexcept {
  const bool keeping = purpose == Purpose::kKeepAlive;
  const TimePoint start = clock_.now();
  // Old servers have no flush, and any request keeps a connection alive.
  Status status = always_stable() ? ask_options(lease) : ask_flush(lease);
  note_long_attempt(start);

  const auto op = keeping ? Stats::Op::kKeepAlive : Stats::Op::kFlush;
  if (status.ok()) {
    stats_.add(op, 0, 1, clock_.now() - start);
    note_answer(start);
    last_success_ = clock_.now();
    note_success();
    MutexLock lock(mutex_);
    log_.flushed(lease.id());
    wake_waiting();  // there is room in the log
    return status;
  }
  stats_.add_failure(op);
  status = status.while_doing(options_.name + (keeping ? ": could not keep the connection alive"
                                                       : ": could not flush"));
  judge(lease, purpose, status);
  return status;
}

void Volume::keep_alive(pool::Lease& lease) {
  if (!lease.retired().ok()) return;  // lost under another client's request
  const Status status = flush_lease(lease, Purpose::kKeepAlive);
  if (!status.ok()) UPLOAD_DEBUG(keeper, "keeper: %s", status.text().c_str());
}

}  // namespace upload::volume
