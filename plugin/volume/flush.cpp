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
    if (connections.value().empty()) return {};
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

// Waits for what needs no flush but to be sent again, or to get into the
// spool. None: all up to `last` is stable.
Result<std::vector<http::ConnectionId>> Volume::connections_to_flush(uint64_t last,
                                                                     TimePoint start) {
  using Wait = journal::ReplayLog::Wait;
  MutexLock lock(mutex_);
  for (;;) {
    if (latched_) return *latched_;
    const bool rows = log_.waits_for(Wait::kRows, last) && !options_.spool_local;
    if (state_ == State::kSpooling) {
      // All that is in memory moves to the spool.
      if (!rows && !log_.waits_for(Wait::kMemory, last))
        return std::vector<http::ConnectionId>();
    } else if (!rows && !log_.waits_for(Wait::kOrphans, last)) {
      return log_.to_flush(last);
    }
    if (stopping_) return Status(Kind::kShutdown, "the plugin is shutting down");
    // The recovery thread sees to it, or latches.
    if (clock_.now() >= patience(start)) return out_of_patience("flush");
    wait_for_change(patience(start));
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

  const auto op = keeping ? Stats::Op::kKeepAlive : Stats::Op::kFlush;
  if (status.ok()) {
    stats_.add(op, 0, 1, clock_.now() - start);
    note_answer(start);
    last_success_ = clock_.now();
    note_success();
    MutexLock lock(mutex_);
    log_.flushed(lease.id());
    changed_.notify_all();  // there is room in the log
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
