// SPDX-License-Identifier: BSD-3-Clause
//
// The jobs, in the order of their urgency, and then the way of rows to the server.

#include "volume/drainer.h"

#include <algorithm>
#include <boost/icl/interval_set.hpp>
#include <cassert>
#include <chrono>
#include <cinttypes>
#include <memory>
#include <new>

#include "base/log.h"

namespace upload::volume {

namespace {

// Worth a transaction.
constexpr size_t kManyDead = 64;
// Where a probe did not tell enough.
constexpr Duration kProbeAgain = std::chrono::seconds(1);
// The server may be away for as long as there is room.
constexpr Duration kForever = std::chrono::hours(10 * 365 * 24);

}  // namespace

Drainer::Drainer(Core& core, Spooler& spooler, Exchange& exchange, Resender& resender,
                 Replayer& replayer)
    : core_(core),
      spooler_(spooler),
      exchange_(exchange),
      resender_(resender),
      replayer_(replayer),
      spool_(*core.options.spool) {}

Job Drainer::next_job(TimePoint& not_before) {
  core_.mutex.assert_held();
  if (core_.health.latched() || core_.spool_state == SpoolState::kDirect) return nullptr;
  if (Job job = spooler_.move_job(not_before)) return job;
  if (has_many_dead()) return [this] { drop_dead(); };
  // Also without rows: somebody has to find out that the server is back.
  if (core_.spool_state == SpoolState::kSpooling || !core_.unflushed.rows().empty()) {
    const TimePoint when = core_.drain_progress.next_attempt();
    if (core_.clock.now() >= when) return [this] { drain(); };
    not_before = std::min(not_before, when);
    return nullptr;
  }
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

void Drainer::drain() {
  Status status = probe_if_unsure();
  if (status.ok()) status = drain_oldest();
  if (!status.ok()) drain_failed(status);
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

// Sends the oldest rows, as far as newer ones don't hide them, and drops them.
Status Drainer::drain_oldest() {
  std::vector<journal::SpoolRow> rows;
  std::vector<journal::Slice> slices;
  HeldRanges held;
  {
    MutexLock lock(core_.mutex);
    const BatchLimits& limits = core_.options.limits;
    rows = core_.unflushed.rows().oldest(limits.max_request, limits.max_zero, most_rows_);
    if (!rows.empty()) {
      if (!hold_rows(rows, held)) return {};
      slices = slices_to_send(rows);
      if (rows.empty()) {
        core_.let_go(held);
        return {};
      }
      core_.unflushed.begin_sending(rows);
    }
  }
  // Without rows: what did not get into the spool.
  const Status status = rows.empty() ? replayer_.replay_first() : send(slices);
  if (status.ok()) drop(rows);
  MutexLock lock(core_.mutex);
  core_.let_go(held);
  return status;
}

// Holds all that requests for the rows write. Two that touch the same block are one range: the
// second would wait for the first.
bool Drainer::hold_rows(std::span<const journal::SpoolRow> rows, HeldRanges& held) {
  boost::icl::interval_set<uint64_t> ranges;
  for (const journal::SpoolRow& row : rows) {
    const ByteRange blocks = core_.blocks_of(row.range);
    ranges.add(boost::icl::interval<uint64_t>::right_open(blocks.offset, blocks.end()));
  }
  for (const auto& range : ranges)
    held.emplace_back().range = {range.lower(), range.upper() - range.lower()};
  return core_.hold(held);
}

// What is to be sent of the rows, in the order of offsets. From the first row
// on to which a late copy of something else may come, they stay for later.
std::vector<journal::Slice> Drainer::slices_to_send(std::vector<journal::SpoolRow>& rows) {
  std::vector<journal::Slice> all;
  std::optional<TimePoint> doubt;
  auto row = rows.begin();
  for (; row != rows.end(); ++row) {
    std::vector<journal::Slice> slices = core_.unflushed.seen_slices(*row);
    for (const journal::Slice& slice : slices)
      if (!doubt)
        doubt = core_.late_copies.until(slice.range, slice.record->sequence, core_.clock.now());
    if (doubt) break;
    std::move(slices.begin(), slices.end(), std::back_inserter(all));
  }
  if (doubt && *doubt == LateCopies::kUnknown) {
    // The next attempt begins with a probe, whose answer tells.
    if (row == rows.begin()) core_.drain_progress.leave_alone(core_.clock.now() + kProbeAgain);
  } else if (doubt) {
    if (row == rows.begin()) core_.drain_progress.leave_alone(*doubt);
    core_.drain_progress.hold_back(*doubt);
  }
  rows.erase(row, rows.end());
  std::sort(all.begin(), all.end(), [](const journal::Slice& a, const journal::Slice& b) {
    return a.range.offset < b.range.offset;
  });
  return all;
}

// Makes the content of the slices stable on the server. What was achieved is kept,
// however often connections are lost: the log forgets it, and only the rest of the rows
// is sent the next time. The rows stay until all of them is stable.
Status Drainer::send(const std::vector<journal::Slice>& slices) {
  std::vector<std::unique_ptr<std::byte[]>> buffers;
  Pieces pieces;
  for (const journal::Slice& slice : slices) {
    std::byte* data = nullptr;
    if (!slice.record->zero) {
      try {
        buffers.push_back(std::make_unique_for_overwrite<std::byte[]>(slice.range.length));
      } catch (const std::bad_alloc&) {
        return {Kind::kNoMemory, "out of memory for what is in the spool"};
      }
      data = buffers.back().get();
      const Result<bool> there = spooler_.read(slice, data);
      if (!there.ok()) return there.status();
      assert(there.value());  // only this thread drops rows
    }
    pieces.push_back({slice.range, data, slice.record->sequence});
  }
  const std::vector<Pieces> requests = split(pieces, core_.options.limits);
  for (std::span<const Pieces> left = requests; !left.empty();) {
    const Result<size_t> sent = resender_.send_some(left);
    if (!sent.ok()) return sent.status();
    retry_.reset();
    left = left.subspan(sent.value());
  }
  return {};
}

// The server has what is in the rows. Where they can't be dropped they stay, and will be
// sent again.
void Drainer::drop(const std::vector<journal::SpoolRow>& rows) {
  std::vector<uint64_t> ids;
  for (const journal::SpoolRow& row : rows) ids.push_back(row.id);
  const Status status = spool_.drop(ids);
  if (status.ok()) return dropped(rows);
  spooler_.latch_unless_full(status);
  MutexLock lock(core_.mutex);
  core_.note_draining_fails();
  // Dropping takes room too, less for fewer.
  most_rows_ = std::max<size_t>(1, most_rows_ / 2);
  core_.drain_progress.leave_alone(core_.clock.now() + Spooler::kDiskAgain);
}

void Drainer::dropped(const std::vector<journal::SpoolRow>& rows) {
  uint64_t left = 0;
  bool is_back = false;
  retry_.reset();
  {
    MutexLock lock(core_.mutex);
    core_.unflushed.rows_dropped(rows);
    most_rows_ = std::min(kMostRows, most_rows_ * 2);
    is_back = core_.spool_state == SpoolState::kSpooling;
    spooler_.enter(SpoolState::kDraining);  // what is left in memory is replayed
    left = core_.unflushed.rows().used();
  }
  if (is_back)
    log::warning("%s: the server answers again, %" PRIu64 " bytes in the spool are sent to it",
                 core_.options.name.c_str(), left);
}

// Tries again at once, then after growing pauses, for as long as it takes.
void Drainer::drain_failed(const Status& failure) {
  {
    MutexLock lock(core_.mutex);
    if (core_.health.over()) return;
    core_.note_draining_fails();
    // Less is more likely to get through, where much is lost.
    most_rows_ = std::max<size_t>(1, most_rows_ / 2);
  }
  // Often enough that whoever gives up has seen it fail a few times.
  const Duration most = core_.options.retry_time / 4;
  if (!retry_)
    retry_.emplace(core_.clock, Purpose::kResend,
                   Retry::Limits{.total = kForever,
                                 .pause = std::min(Retry::kLongestPause, most),
                                 .asked = std::min(Retry::kLongestAsked, most)});
  const std::optional<TimePoint> when = retry_->next(failure);
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
void Drainer::drop_dead() {
  std::vector<uint64_t> dead;
  {
    MutexLock lock(core_.mutex);
    dead = core_.unflushed.take_dead_rows();
  }
  // On a disk that is full they go later, with the others.
  if (const Status status = spool_.drop(dead); !status.ok())
    return spooler_.latch_unless_full(status);
  MutexLock lock(core_.mutex);
  core_.unflushed.dead_rows_dropped(dead);
  core_.wake_waiting();
}

void Drainer::end_spooling() {
  const Status status = spool_.shrink();
  if (!status.ok()) return core_.latch(status);
  {
    MutexLock lock(core_.mutex);
    // Unless more has come, or the server has gone again.
    if (!is_drained()) return;
    core_.drain_progress.succeeded();
    core_.has_leftovers = false;
    spooler_.enter(SpoolState::kDirect);
  }
  log::warning("%s: the spool is empty, changes go to the server again",
               core_.options.name.c_str());
  core_.note_success();
}

}  // namespace upload::volume
