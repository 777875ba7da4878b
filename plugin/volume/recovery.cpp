// SPDX-License-Identifier: BSD-3-Clause
//
// What a volume with a replay log does about lost connections.
//
// A request that fails is repeated by its own thread (Volume::lead, read).
// What was acknowledged over a connection that is lost becomes orphaned in
// the log; the recovery thread sends it again over another connection, in
// this way:
//   - it takes the ranges of some orphans in the queue, like changes: later
//     changes that overlap them wait, earlier ones it waits for;
//   - then it looks again at what is still orphaned there, since an earlier
//     change may have been newer, and sends that over one connection, which it
//     flushes at the end: what was achieved is kept, however often connections
//     are lost. How much goes before a flush grows while that works, and halves
//     with each failure.
// Where there is much, more threads do the same over the other connections.
// So for each byte the newest content is what the server gets last
// (invariant 7), and a flush returns when nothing up to its beginning is left
// in the log (invariant 5).
//
// The recovery thread also flushes when the log is half full, so that writers
// wait only when it is full.
//
// Everything ends: without a spool each repetition gives up after the retry
// time, and latches; with one, a request that fails twice begins spooling.

#include <algorithm>
#include <cassert>
#include <cinttypes>
#include <system_error>

#include "base/log.h"
#include "volume/volume.h"

namespace upload::volume {

namespace {

// Of one who replays or drains, with a connection that others wait for.
constexpr Duration kLongestTurn = std::chrono::milliseconds(500);

}  // namespace

// --- Trying again ---------------------------------------------------------

Retry Volume::make_retry() const {
  return {clock_, {.total = options_.retry_time,
                   .asked = std::min(Retry::kLongestAsked, options_.retry_time / 4)}};
}

// Waits until it is time to try again. With a spool only reads wait: for
// others an outage that outlasts one repetition begins spooling.
Volume::Next Volume::wait_to_retry(Retry& retry, const Status& failure, Purpose purpose) {
  {
    MutexLock lock(mutex_);
    if (latched_ || stopping_) return Next::kGiveUp;
    retry.forget_before(woken_late_);
  }
  const std::optional<TimePoint> when = retry.next(failure, last_success_);
  const bool spoolable =
      spools() && purpose != Purpose::kRead && Retry::worthwhile(failure);
  if (spoolable && (!when || *when > clock_.now())) {
    note_outage(failure);
    enter_spooling(failure, when.value_or(clock_.now()));
    return Next::kSpool;
  }
  if (!when) {
    if (purpose != Purpose::kRead && Retry::worthwhile(failure)) retried_in_vain(retry, failure);
    return Next::kGiveUp;
  }
  note_outage(failure);
  MutexLock lock(mutex_);
  while (!latched_ && !stopping_ && clock_.now() < *when) wait_for(changed_, *when);
  return latched_ || stopping_ ? Next::kGiveUp : Next::kTryAgain;
}

void Volume::retried_in_vain(const Retry& retry, const Status& failure) {
  uint64_t orphans = 0;
  {
    MutexLock lock(mutex_);
    orphans = log_.orphan_bytes();
  }
  latch(failure.while_doing(
      options_.name +
      format(": gave up after %lld seconds (retry-time=), with %" PRIu64
             " acknowledged bytes that could not be sent again",
             seconds(retry.elapsed()), orphans)));
}

// One line for each outage, and one at its end.
void Volume::note_outage(const Status& why) {
  {
    MutexLock lock(mutex_);
    if (outage_since_) return;
    outage_since_ = clock_.now();
    outage_ = true;
  }
  log::warning("trying again for up to %lld seconds: %s", seconds(options_.retry_time),
               why.text().c_str());
}

void Volume::note_success() {
  if (!outage_) return;
  Duration outage;
  {
    MutexLock lock(mutex_);
    if (!outage_since_ || log_.has_orphans() || state_ != State::kDirect) return;
    outage = clock_.now() - *outage_since_;
    outage_since_.reset();
    outage_ = false;
  }
  log::warning("%s: recovered after %.1f seconds, nothing is lost", options_.name.c_str(),
               std::chrono::duration<double>(outage).count());
}

// --- The recovery thread --------------------------------------------------

void Volume::recover() {
  for (;;) {
    switch (wait_for_recovery()) {
      case Recovery::kStop: return;
      case Recovery::kReplay: replay_all(); break;
      case Recovery::kMakeRoom: make_room(); break;
    }
  }
}

Volume::Recovery Volume::wait_for_recovery() {
  MutexLock lock(mutex_);
  for (;;) {
    if (stopping_) return Recovery::kStop;
    // While spooling the log moves to the spool.
    if (!latched_ && state_ != State::kSpooling) {
      if (log_.has_orphans_in_memory()) return Recovery::kReplay;
      if ((log_.half_full() || room_wanted_) && !log_.to_flush(log_.last_sequence()).empty())
        return Recovery::kMakeRoom;
    }
    recovery_work_.wait(mutex_);
  }
}

// What fails here is orphaned, and comes back as such.
void Volume::make_room() {
  std::vector<http::ConnectionId> connections;
  {
    MutexLock lock(mutex_);
    connections = log_.to_flush(log_.last_sequence());
    room_wanted_ = false;
  }
  for (const http::ConnectionId id : connections) (void)flush_connection(id).ok();
}

// --- Replay ---------------------------------------------------------------

// Takes the ranges in the queue, all together, when earlier changes there are
// done. False: latched meanwhile, and nothing is held.
bool Volume::hold(std::list<Change>& changes) {
  for (Change& change : changes) {
    change.exclusive = true;
    queue_.add(change);
  }
  bool held = true;
  for (Change& change : changes) {
    while (change.state == Change::State::kBlocked) change.woken.wait(mutex_);
    held = held && change.state == Change::State::kTaken;
  }
  if (!held) let_go(changes);
  return held;
}

void Volume::let_go(std::list<Change>& changes) {
  std::vector<Change*> taken;
  for (Change& change : changes)
    if (change.state == Change::State::kTaken) taken.push_back(&change);
  finish(taken, {});
  wake_waiting();
}

// Sends the orphans in memory again, over as many connections as there is work for.
void Volume::replay_all() {
  size_t helpers = 0;
  {
    MutexLock lock(mutex_);
    replay_from_ = 0;
    helpers = std::min<size_t>(pool_.limit(), log_.orphans_in_memory() / kWorthAThread);
  }
  const auto work = [this] {
    for (bool more = true; more;) more = replay().ok() && has_more_to_replay();
  };
  std::vector<Thread> threads;
  try {
    while (threads.size() + 1 < helpers) threads.emplace_back(work);
  } catch (const std::exception& error) {
    UPLOAD_DEBUG(journal, "replay: no more threads: %s", error.what());
  }
  work();
  for (Thread& thread : threads) thread.join();
}

bool Volume::has_more_to_replay() {
  MutexLock lock(mutex_);
  return !latched_ && !stopping_ && state_ != State::kSpooling &&
         log_.first_orphans(1, replay_from_).has_value();
}

// The next orphans in memory that nobody else is about to send.
std::vector<ByteRange> Volume::next_orphans() {
  std::vector<ByteRange> ranges;
  uint64_t total = 0;
  while (ranges.size() < most_replayed_ && total < kMostReplayedBytes) {
    const auto range = log_.first_orphans(options_.limits.max_request, replay_from_);
    if (!range) break;
    ranges.push_back(*range);
    replay_from_ = range->end();
    total += range->length;
  }
  return ranges;
}

// Sends the next orphans in memory again.
Status Volume::replay() {
  std::list<Change> held;
  std::vector<journal::Slice> slices;
  {
    MutexLock lock(mutex_);
    if (latched_) return {};
    for (const ByteRange range : next_orphans()) held.emplace_back().range = range;
    if (held.empty()) return {};
    if (!hold(held)) return latched_.value_or(Status());
    for (const Change& change : held)
      for (journal::Slice& slice : log_.slices(change.range)) slices.push_back(std::move(slice));
  }
  Pieces pieces;
  for (const journal::Slice& slice : slices)
    if (slice.connection == journal::ReplayLog::kNone && slice.record->row == 0)
      pieces.push_back(
          {slice.range, slice.record->at(slice.range.offset), slice.record->change});
  const Status status = send_again(runs_of(pieces));
  slices.clear();  // with them records may go: there is room in the log
  MutexLock lock(mutex_);
  let_go(held);
  return status;
}

// Adjacent pieces of a kind go together, as far as they fit into a request.
std::vector<Volume::Pieces> Volume::runs_of(const Pieces& pieces) const {
  std::vector<Pieces> runs;
  const auto is_zero = [&](const Piece& piece) {
    return piece.data == nullptr && capabilities().can_zero;
  };
  uint64_t total = 0;
  for (const Piece& piece : pieces) {
    const uint64_t most = is_zero(piece) ? options_.limits.max_zero : options_.limits.max_request;
    if (runs.empty() || runs.back().back().range.end() != piece.range.offset ||
        is_zero(runs.back().back()) != is_zero(piece) || total + piece.range.length > most) {
      runs.emplace_back();
      total = 0;
    }
    total += piece.range.length;
    runs.back().push_back(piece);
  }
  return runs;
}

// Until all are stable on the server, or it is given up.
Status Volume::send_again(std::span<const Pieces> runs) {
  std::optional<Retry> retry;
  while (!runs.empty()) {
    const Result<size_t> sent = send_some(runs);
    if (sent.ok()) {
      retry.reset();
      note_success();
      runs = runs.subspan(sent.value());
      continue;
    }
    const Status failure = memory_passes(sent.status());
    if (!Retry::worthwhile(failure)) {
      latch(failure.while_doing("acknowledged data could not be sent again"));
      return failure;
    }
    if (!retry) retry.emplace(make_retry());
    if (wait_to_retry(*retry, failure, Purpose::kStableChange) != Next::kTryAgain)
      return latched_or(failure);
  }
  return {};
}

// Makes the first of the runs stable on the server, and returns how many; the log
// forgets them. Nobody could change them meanwhile: their ranges are held.
Result<size_t> Volume::send_some(std::span<const Pieces> runs) {
  size_t most = 0;
  {
    MutexLock lock(mutex_);
    most = std::min(most_replayed_, runs.size());
  }
  Result<size_t> sent = send_stable(runs.first(most));
  MutexLock lock(mutex_);
  if (sent.ok()) {
    for (const Pieces& run : runs.first(sent.value())) log_.supersede(range_of(run));
    most_replayed_ = std::min(kMostReplayed, most_replayed_ + most_replayed_ / 4 + 1);
    wake_waiting();
  } else {
    // Less is more likely to get through, where much is lost.
    most_replayed_ = std::max<size_t>(1, most / 2);
  }
  return sent;
}

// Sends runs over one connection, and makes them stable, as many as don't keep the
// connection from others for long. Returns how many. A failure says nothing of any
// of them: those that were sent before it may be stable or lost.
Result<size_t> Volume::send_stable(std::span<const Pieces> runs) {
  Result<pool::Lease> lease = pool_.lease();
  if (!lease.ok()) return lease.status();
  lease.value().replace_if_closed();
  const TimePoint enough = clock_.now() + kLongestTurn;
  // One alone is stable with its own reply.
  const bool one = runs.size() == 1 || always_stable();
  size_t sent = 0;
  do {
    if (Status status = latched(); !status.ok()) return status;
    if (Status status = send(lease.value(), runs[sent], one, true); !status.ok()) return status;
    ++sent;
  } while (!one && sent < runs.size() && clock_.now() < enough);
  if (!one)
    if (Status status = flush_lease(lease.value(), Purpose::kFlush); !status.ok()) return status;
  return sent;
}

}  // namespace upload::volume
