// SPDX-License-Identifier: BSD-3-Clause
//
// The jobs, in the order of their urgency, and then the way of rows to the server.

#include "volume/drainer.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cinttypes>

#include "base/log.h"

namespace upload::volume {

namespace {

// Worth a transaction.
constexpr size_t kManyDead = 64;
// Where others have all that could be sent.
constexpr Duration kAskAgain = std::chrono::seconds(1);
// A change that overlaps a group waits for about that at most.
constexpr Duration kLongestHold = std::chrono::seconds(1);

// A flush of the server's disk, and a transaction, are worth so many requests and rows.
constexpr uint64_t kMostRequests = 4;
constexpr size_t kMostRowsOfGroup = 256;
// Of all groups together: bytes in memory, and rows, which are looked through for each group.
constexpr uint64_t kMostInMemory = uint64_t{64} << 20;
constexpr size_t kMostRowsOfAll = 2048;

}  // namespace

Drainer::Drainer(Core& core, Spooler& spooler, Exchange& exchange, Resender& resender,
                 Replayer& replayer)
    : core_(core),
      spooler_(spooler),
      exchange_(exchange),
      replayer_(replayer),
      spool_(*core.options.spool),
      kMostRows(std::clamp<size_t>(kMostRowsOfAll / core.share.limit(), 1, kMostRowsOfGroup)),
      kMostData(std::clamp(kMostInMemory / core.share.limit(), core.options.limits.max_request,
                           kMostRequests * core.options.limits.max_request)),
      most_rows_(kMostRows),
      most_data_(kMostData) {
  MutexLock lock(core_.mutex);
  for (unsigned i = 0; i < core_.share.limit(); ++i)
    resting_.push_back(&senders_.emplace_back(core, spooler, resender));
}

Job Drainer::next_job(TimePoint& not_before) {
  core_.mutex.assert_held();
  if (core_.health.latched() || core_.spool_state == SpoolState::kDirect) return nullptr;
  if (!alone_) {
    if (Job job = sole_job(not_before)) {
      alone_ = true;
      return [this, job = std::move(job)] {
        job();
        MutexLock lock(core_.mutex);
        alone_ = false;
      };
    }
  }
  return core_.spool_state == SpoolState::kDraining ? group_job(not_before) : nullptr;
}

Job Drainer::sole_job(TimePoint& not_before) {
  if (Job job = spooler_.move_job(not_before)) return job;
  if (has_many_dead()) return drop_dead_job();
  if (core_.spool_state == SpoolState::kSpooling) return ask_job(not_before);
  return is_drained() ? Job([this] { end_spooling(); }) : nullptr;
}

bool Drainer::has_many_dead() const {
  const size_t dead = core_.unflushed.dead_rows();
  return dead >= kManyDead ||
         (dead > 0 && core_.unflushed.rows().used() > core_.options.spool_size / 2);
}

// Nothing is in the spool, nor on its way there.
bool Drainer::is_drained() const {
  return core_.spool_state == SpoolState::kDraining && core_.unflushed.rows().empty() &&
         !core_.appending && core_.queue.ready_count(true) == 0;
}

// --- To the server --------------------------------------------------------

bool Drainer::is_time(TimePoint& not_before) const {
  const TimePoint when = core_.drain_progress.next_attempt();
  if (core_.clock.now() >= when) return true;
  not_before = std::min(not_before, when);
  return false;
}

// Also without rows: somebody has to find out that the server is back.
Job Drainer::ask_job(TimePoint& not_before) {
  if (!is_time(not_before) || resting_.empty()) return nullptr;
  return [this, &sender = take_sender()] { ask(sender); };
}

Job Drainer::group_job(TimePoint& not_before) {
  if (core_.unflushed.rows().empty() || !is_time(not_before)) return nullptr;
  // No more than there are connections, and none while the disk gets behind.
  const size_t most = std::min<size_t>(senders_.size(), core_.share.limit());
  if (senders_.size() - resting_.size() >= most || stable_.size() >= most) return nullptr;
  Rows rows = take_oldest();
  if (rows.empty()) return nullptr;
  return [this, &sender = take_sender(), rows = std::move(rows)] { drain(sender, rows); };
}

RowSender& Drainer::take_sender() {
  RowSender& sender = *resting_.back();
  resting_.pop_back();
  return sender;
}

Drainer::Rows Drainer::take_oldest() {
  const BatchLimits& limits = core_.options.limits;
  return core_.unflushed.take_oldest(
      {.data = most_data_, .zero = limits.max_zero, .rows = most_rows_, .block = limits.block});
}

// Whether the server answers, and then whether it takes something: rows, or what did not get
// into the spool.
void Drainer::ask(RowSender& sender) {
  const TimePoint began = core_.clock.now();
  Status status = probe_if_unsure();
  Rows rows;
  bool none = false;
  if (status.ok()) {
    MutexLock lock(core_.mutex);
    none = core_.unflushed.rows().empty();
    rows = take_oldest();
    // All that can be sent is with senders that began before.
    if (!none && rows.empty()) core_.drain_progress.leave_alone(core_.clock.now() + kAskAgain);
  }
  if (status.ok() && none) {
    status = replay_first(sender);
  } else if (status.ok() && !rows.empty()) {
    status = send(sender, std::move(rows));
  }
  rest(sender, began, status);
}

Status Drainer::replay_first(RowSender& sender) {
  const Status status = replayer_.replay_first();
  if (!status.ok()) return status;
  sender.succeeded();
  std::optional<uint64_t> left;
  {
    MutexLock lock(core_.mutex);
    left = note_taken();
  }
  if (left) say_back(*left);
  return {};
}

void Drainer::drain(RowSender& sender, Rows rows) {
  const TimePoint began = core_.clock.now();
  Status status = probe_if_unsure();
  if (status.ok()) {
    status = send(sender, std::move(rows));
  } else {
    MutexLock lock(core_.mutex);
    core_.unflushed.give_back(rows);
  }
  rest(sender, began, status);
}

// What began then has come to that. Somebody else may have the sender.
void Drainer::rest(RowSender& sender, TimePoint began, const Status& status) {
  if (!status.ok()) drain_failed(sender, began, status);
  MutexLock lock(core_.mutex);
  resting_.push_back(&sender);
}

// Does the server answer? Whoever finds out must not hold any range: it may take as long as
// the time-outs. Its answer tells, too, how long late copies may come.
Status Drainer::probe_if_unsure() {
  {
    MutexLock lock(core_.mutex);
    if (core_.spool_state != SpoolState::kSpooling && !core_.late_copies.any_unknown()) return {};
  }
  Result<upstream::Lease> lease = core_.lease();
  if (!lease.ok()) return lease.status();
  lease.value().replace_if_closed();
  return exchange_.probe(lease.value());
}

// Sends the rows, as far as newer ones don't hide them, and drops them.
Status Drainer::send(RowSender& sender, Rows rows) {
  RowGroup group;
  group.rows = std::move(rows);
  const TimePoint began = core_.clock.now();
  const Status status = sender.send(group);
  {
    MutexLock lock(core_.mutex);
    // Changes wait for what is held.
    if (core_.clock.now() - began > kLongestHold)
      most_data_ = std::max(most_data_ / 2, core_.options.limits.max_request);
    else
      most_data_ = std::min(most_data_ * 2, kMostData);
    if (!status.ok() || group.sent == 0) {
      give_back(group);
      return status;
    }
  }
  drop(std::move(group));
  return {};
}

// The rows that are not dropped stay, and others may have them.
void Drainer::give_back(RowGroup& group) {
  core_.unflushed.give_back(group.rows);
  core_.let_go(group.held);
}

// --- What the server has --------------------------------------------------

// Whoever finds nobody dropping does it for all who come meanwhile, too. It ends when none has
// come during a transaction, at the latest when the volume stops: then no group is begun.
void Drainer::drop(RowGroup group) {
  {
    MutexLock lock(core_.mutex);
    stable_.push_back(std::move(group));
    if (dropping_) return;
    dropping_ = true;
  }
  while (drop_stable()) {
  }
}

// The server has what is in the rows. Where they can't be dropped they stay, and will be
// sent again. False: there are none.
bool Drainer::drop_stable() {
  std::list<RowGroup> groups;
  std::vector<uint64_t> ids;
  {
    MutexLock lock(core_.mutex);
    while (!stable_.empty() &&
           (groups.empty() || ids.size() + stable_.front().sent <= most_rows_)) {
      groups.splice(groups.end(), stable_, stable_.begin());
      for (size_t i = 0; i < groups.back().sent; ++i) ids.push_back(groups.back().rows[i].id);
    }
    if (groups.empty()) {
      dropping_ = false;
      return false;
    }
  }
  const Status status = spool_.drop(ids);
  if (!status.ok()) could_not_drop(status);
  std::optional<uint64_t> left;
  {
    MutexLock lock(core_.mutex);
    for (RowGroup& group : groups) {
      if (status.ok()) {
        const auto end = group.rows.begin() + static_cast<ptrdiff_t>(group.sent);
        core_.unflushed.rows_dropped({group.rows.begin(), end});
        group.rows.erase(group.rows.begin(), end);
      }
      give_back(group);
    }
    if (status.ok()) left = note_taken();
  }
  if (left) say_back(*left);
  return true;
}

void Drainer::could_not_drop(const Status& failure) {
  spooler_.latch_unless_full(failure);
  MutexLock lock(core_.mutex);
  core_.note_draining_fails();
  // Dropping takes room too, less for fewer.
  most_rows_ = std::max<size_t>(1, most_rows_ / 2);
  core_.drain_progress.leave_alone(core_.clock.now() + Spooler::kDiskAgain);
}

// The server has taken something. If it had been away: what is left in the spool, in bytes.
std::optional<uint64_t> Drainer::note_taken() {
  most_rows_ = std::min(kMostRows, most_rows_ * 2);
  const bool is_back = core_.spool_state == SpoolState::kSpooling;
  spooler_.enter(SpoolState::kDraining);  // what is left in memory is replayed
  if (!is_back) return std::nullopt;
  return core_.unflushed.rows().used();
}

void Drainer::say_back(uint64_t left) {
  log::warning("%s: the server answers again, %" PRIu64 " bytes in the spool are sent to it",
               core_.options.name.c_str(), left);
}

// --- Failures, and the end ------------------------------------------------

// Tries again at once, then after growing pauses, for as long as it takes.
void Drainer::drain_failed(RowSender& sender, TimePoint began, const Status& failure) {
  {
    MutexLock lock(core_.mutex);
    if (core_.health.over()) return;
    core_.note_draining_fails(began);
    // Less is more likely to get through, where much is lost.
    most_rows_ = std::max<size_t>(1, most_rows_ / 2);
  }
  const std::optional<TimePoint> when = sender.next_attempt(failure);
  if (!when) {
    std::string left;
    {
      MutexLock lock(core_.mutex);
      left = core_.left_in_spool();
    }
    return core_.latch(failure.while_doing(left));
  }
  core_.note_outage(failure);
  if (*when > core_.clock.now()) spooler_.begin(failure, *when);
}

// Gives the room of dead rows back.
Job Drainer::drop_dead_job() {
  return [this, dead = core_.unflushed.take_dead_rows()] { drop_dead(dead); };
}

void Drainer::drop_dead(const std::vector<uint64_t>& dead) {
  const Status status = spool_.drop(dead);
  // On a disk that is full they go later, with the others.
  if (!status.ok()) spooler_.latch_unless_full(status);
  MutexLock lock(core_.mutex);
  core_.unflushed.dead_rows_dropped(dead, status.ok());
  if (status.ok()) core_.wake_waiting();
}

void Drainer::end_spooling() {
  const Status status = spool_.shrink();
  if (!status.ok()) return core_.latch(status);
  {
    MutexLock lock(core_.mutex);
    // Unless more has come, or the server has gone again.
    if (!is_drained()) return;
    core_.drain_progress.succeeded();
    for (RowSender* sender : resting_) sender->succeeded();
    core_.has_leftovers = false;
    spooler_.enter(SpoolState::kDirect);
  }
  log::warning("%s: the spool is empty, changes go to the server again",
               core_.options.name.c_str());
  core_.note_success();
}

}  // namespace upload::volume
