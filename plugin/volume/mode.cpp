// SPDX-License-Identifier: BSD-3-Clause
//
// The two modes side by side: what one does about a failure, the other does not.

#include "volume/mode.h"

#include <algorithm>
#include <cinttypes>

#include "base/format.h"

namespace upload::volume {

namespace {

Status lost_changes(const Core& core, const Status& why) {
  return why.while_doing(core.options.name + ": a connection with unflushed changes was lost");
}

}  // namespace

// --- Without a replay log -------------------------------------------------

Retry FailAtOnce::make_retry(Purpose purpose) const { return {core_.clock, purpose, {}}; }

TimePoint FailAtOnce::give_up_waiting_at(TimePoint since) const {
  return core_.share.give_up_at(since);
}

Status FailAtOnce::may_wait_in_doubt() const {
  return {Kind::kLost, core_.options.name +
                           ": an earlier change here failed, and the server "
                           "may still be applying it; start again"};
}

// The whole range of the request, for every change: none is ever repeated.
void FailAtOnce::put_in_doubt(const Pieces& pieces) {
  constexpr size_t kMost = 1000;
  bool too_many = false;
  {
    MutexLock lock(core_.mutex);
    const ByteRange blocks = core_.blocks_of(range_of(pieces));
    core_.note_late_copy(blocks, blocks, 0);
    too_many = core_.late_copies.count() > kMost;
  }
  if (too_many) core_.latch({Kind::kLost, "too many changes have failed"});
}

void FailAtOnce::connection_lost(ConnectionId id, const Status& why) {
  const Status status = lost_changes(core_, why);
  {
    // One step: a flush in between would find nothing dirty and no error.
    MutexLock lock(core_.mutex);
    core_.forgotten_ticket.connection_lost(core_.clock.now());
    if (!core_.unflushed.log.lost(id) || core_.health.latched()) return;
    core_.latch_now(status);
  }
  Core::say_latched(status);
}

// --- With one -------------------------------------------------------------

Retry Persist::make_retry(Purpose purpose) const {
  return {core_.clock,
          purpose,
          {.total = core_.options.retry_time,
           .asked = std::min(Retry::kLongestAsked, core_.options.retry_time / 4)}};
}

// Reads always wait. Others do not where there is a fallback: an outage that outlasts one
// repetition begins it.
Mode::Next Persist::after_failure(Retry& retry, const Status& failure) {
  {
    MutexLock lock(core_.mutex);
    if (core_.health.over()) return Next::kGiveUp;
    retry.forget_before(core_.resumed);
  }
  const bool reads = retry.purpose() == Purpose::kRead;
  const bool worthwhile = retry.worthwhile(failure);
  const std::optional<TimePoint> when = retry.next(failure, core_.last_success);
  if (worthwhile && !reads && (!when || *when > core_.clock.now()) &&
      fallback_.begin(failure, when.value_or(core_.clock.now())))
    return Next::kFallback;
  if (!when) {
    if (worthwhile && !reads) latch_given_up(retry, failure);
    return Next::kGiveUp;
  }
  core_.note_outage(failure);
  MutexLock lock(core_.mutex);
  while (!core_.health.over() && core_.clock.now() < *when)
    core_.wait_for(core_.state_changed, *when);
  if (core_.health.over()) return Next::kGiveUp;
  core_.stats.add_retry();
  return Next::kTryAgain;
}

void Persist::latch_given_up(const Retry& retry, const Status& failure) {
  uint64_t orphans = 0;
  {
    MutexLock lock(core_.mutex);
    orphans = core_.unflushed.log.bytes_to_send();
  }
  core_.latch(failure.while_doing(
      core_.options.name + format(": gave up after %lld seconds (retry-time=), with %" PRIu64
                                  " acknowledged bytes that could not be sent again",
                                  seconds(retry.elapsed()), orphans)));
}

Status Persist::given_up(const Status& failure) const { return core_.latched_or(failure); }

// The changes in front of it in the line may be trying again, for the retry time.
TimePoint Persist::give_up_waiting_at(TimePoint since) const {
  return std::max(
      core_.share.give_up_at(since),
      std::max(since, core_.last_success.load()) + core_.options.retry_time + core_.options.late);
}

// Each is repeated by itself, which changes nothing; others wait as long as the server might
// take. The rest of the blocks at both ends goes with what is beside it, so that pieces of one block
// do not wait for each other.
void Persist::put_in_doubt(const Pieces& pieces) {
  const ByteRange blocks = core_.blocks_of(range_of(pieces));
  MutexLock lock(core_.mutex);
  uint64_t begin = blocks.offset;
  for (const Piece& piece : pieces) {
    const bool last = &piece == &pieces.back();
    const uint64_t end = last ? blocks.end() : piece.range.end();
    core_.note_late_copy({begin, end - begin}, piece.range, piece.sequence);
    begin = end;
  }
}

void Persist::connection_lost(ConnectionId id, const Status& why) {
  {
    MutexLock lock(core_.mutex);
    core_.forgotten_ticket.connection_lost(core_.clock.now());
    if (!core_.unflushed.log.lost(id) || core_.health.latched()) return;
    // Flushes look again: where newer content hides what was lost, it is that which they have
    // to make stable in its place.
    core_.wake_all();
    if (!core_.unflushed.log.has_orphans_in_memory()) return;
    core_.wake_workers();
  }
  core_.note_outage(lost_changes(core_, why));
}

}  // namespace upload::volume
