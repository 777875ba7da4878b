// SPDX-License-Identifier: BSD-3-Clause
//
// Into the log, and out of it.

#include "volume/write_back.h"

#include <algorithm>
#include <cassert>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "base/process_stop.h"

namespace upload::volume {

// --- Into the log ---------------------------------------------------------

bool WriteBack::accept(Change& change) noexcept {
  // What is reserved for it stays the change's until it is in the log.
  std::shared_ptr<journal::Record> record;
  try {
    record = journal::ReplayLog::make_record(core_.log_memory, change.range, 0, change.data);
    record->cost = 0;
  } catch (const std::bad_alloc&) {
    change.result = {Kind::kNoMemory, core_.options.name + ": out of memory for the replay log"};
  }
  MutexLock lock(core_.mutex);
  if (!record) {
    if (core_.budget.release(change)) core_.wake_waiting();
    return true;
  }
  change.exclusive = true;
  core_.enqueue(change);
  wait_for_range(change);
  if (change.state == Change::State::kDone) return true;
  change.exclusive = false;
  if (core_.belongs_into_spool(change.range)) {
    core_.queue.put_back({&change});
    return false;
  }
  record->sequence = change.sequence;
  record->cost = std::exchange(change.memory, 0);
  core_.unflushed.log.add_unsent(std::move(record));
  core_.finish({&change}, {});
  core_.wake_waiting();  // older content has made room
  if (is_worth_sending()) core_.send_work.notify_one();
  return true;
}

// Earlier changes there are under way: they end. One that waits for the server for too long makes
// this one fail, like any other that waits for its turn.
void WriteBack::wait_for_range(Change& change) {
  const TimePoint start = core_.clock.now();
  LastLook last_look;
  while (change.state == Change::State::kBlocked) {
    const TimePoint give_up = mode_.give_up_waiting_at(core_.waiting_since(start));
    if (const auto until = last_look.wait_until(give_up, core_.clock.now()))
      core_.wait_for(change.turn, *until);
    else
      core_.finish({&change}, core_.share.wait_failure());
  }
}

void WriteBack::wait_until_sent() {
  MutexLock lock(core_.mutex);
  core_.waits_for_sent = true;
  core_.send_work.notify_one();
  while (core_.unflushed.log.has_unsent() && !core_.health.over())
    core_.became_stable.wait(core_.mutex);
  core_.waits_for_sent = false;
}

// --- Out of it ------------------------------------------------------------

bool WriteBack::is_worth_sending() const {
  if (core_.health.over() || core_.spool_state == SpoolState::kSpooling || core_.senders_stuck ||
      core_.sending_jobs >= core_.share.limit())
    return false;
  const uint64_t full = core_.options.limits.max_request;
  const uint64_t unsent = core_.unflushed.log.unsent_bytes() - under_way_;
  // Each of them is about to take as much.
  const uint64_t taken = choosing_ * full;
  if (unsent <= taken) return false;
  return core_.sending_jobs == 0 || unsent - taken >= full || core_.somebody_waits_for_sending();
}

Job WriteBack::next_job(TimePoint&) {
  core_.mutex.assert_held();
  if (!is_worth_sending()) return nullptr;
  ++core_.sending_jobs;
  ++choosing_;
  return [this] { send(); };
}

// The connection comes first: meanwhile there is more to go with the first.
void WriteBack::send() noexcept {
  Result<upstream::Lease> connection = core_.lease();
  std::optional<upstream::Lease> lease;
  if (connection.ok()) lease = std::move(connection.value());
  HeldRanges held;
  std::vector<journal::Slice> slices;
  Pieces pieces;
  {
    MutexLock lock(core_.mutex);
    --choosing_;
    slices = next_run();
    pieces = first_request(slices);
    if (pieces.empty()) {
      --core_.sending_jobs;
      return;
    }
    held.emplace_back().range = range_of(pieces);
    under_way_ += held.front().range.length;
    const bool is_held = core_.hold(held);
    assert(is_held);
    (void)is_held;
  }
  const bool stable = core_.options.stable_on_reply();
  const Delivery::Outcome outcome =
      delivery_.deliver(lease, connection.status(), pieces,
                        stable ? Purpose::kStableChange : Purpose::kChange, Purpose::kResend);
  if (!outcome.status.ok())
    core_.latch(outcome.status.while_doing("acknowledged data could not be sent"));
  slices.clear();  // with them records may go: there is room in the log
  MutexLock lock(core_.mutex);
  if (outcome.status.ok() && !outcome.to_fallback) sent(range_of(pieces), *lease);
  under_way_ -= range_of(pieces).length;
  --core_.sending_jobs;
  core_.let_go(held);
  // The mutex goes first, then the lease.
}

// From what was taken last on, and then from the beginning.
std::vector<journal::Slice> WriteBack::next_run() {
  std::vector<journal::Slice> run = first_free_run(next_, core_.options.size);
  if (run.empty()) run = first_free_run(0, next_);
  // Whoever ends looks again.
  if (run.empty()) core_.senders_stuck = core_.unflushed.log.has_unsent();
  return run;
}

// The first unsent bytes between that nobody has in the queue, as far as they may go together.
std::vector<journal::Slice> WriteBack::first_free_run(uint64_t from, uint64_t end) {
  const BatchLimits& limits = core_.options.limits;
  while (from < end) {
    const ByteRange gap = core_.queue.free_from(from);
    if (gap.offset >= end) break;
    std::vector<journal::Slice> run = core_.unflushed.log.first_unsent(
        gap, {.data = limits.max_request, .zeroes = limits.max_zero});
    if (run.empty()) {
      from = gap.end();
      continue;
    }
    const uint64_t offset = run.front().range.offset;
    const ByteRange range{offset, run.back().range.end() - offset};
    if (core_.queue.is_free(range)) return run;
    from = range.end();
  }
  return {};
}

Pieces WriteBack::first_request(const std::vector<journal::Slice>& run) {
  if (run.empty()) return {};
  Pieces first = std::move(split(pieces_of(run), core_.options.limits).front());
  next_ = range_of(first).end();
  return first;
}

// Before the connection is given back, and before its range is: a flush that begins then must
// find it (invariant 5).
void WriteBack::sent(ByteRange range, const upstream::Lease& lease) {
  journal::ReplayLog& log = core_.unflushed.log;
  if (core_.options.stable_on_reply())
    log.supersede(range);
  else
    log.sent(range, lease.id());
  core_.wake_waiting();
  core_.wake_if_room_is_due();
}

}  // namespace upload::volume
