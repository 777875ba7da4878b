// SPDX-License-Identifier: BSD-3-Clause
//
// Waiting and waking, changes and their leaders, and what has happened, each in one step under
// the mutex.

#include "volume/core.h"

#include <algorithm>
#include <cassert>
#include <cinttypes>
#include <utility>

#include "base/format.h"
#include "base/log.h"
#include "base/process_stop.h"

namespace upload::volume {

Core::Core(VolumeOptions volume_options, upstream::Pool& pool, Clock& its_clock, Stats& its_stats)
    : options(std::move(volume_options)),
      share(pool),
      clock(its_clock),
      stats(its_stats),
      log_memory(std::make_shared<journal::Memory>(options.replay, options.common_replay)),
      queue(options.limits),
      late_copies(options.late),
      unflushed(log_memory),
      budget(log_memory, options.spool ? options.spool_size : 0),
      forgotten_ticket(options.denied_wait, options.retry_time),
      last_success(its_clock.now()),
      ticket_used(its_clock.now()) {}

Core::~Core() {
  MutexLock lock(mutex);
  assert(queue.empty() && requested_ == 0 && budget.reserved_in_spool() == 0);
}

// --- Waiting and waking ---------------------------------------------------

void Core::wait_for(CondVar& reason, TimePoint until) {
  if (until == TimePoint::max()) return reason.wait(mutex);
  clock.wait_until(reason, mutex, until);
  const TimePoint now = clock.now();
  if (now - until > kStopped) resumed = now;
}

void Core::wake_all() {
  state_changed.notify_all();
  became_stable.notify_all();
  for (Change* change : waiting_for_room) change->turn.notify_one();
}

// This is called for each acknowledgement, and wakes nobody who would only find that there
// is more to wait for: a flush that covers less waits no longer than others, so only the least has
// to be asked about; and room is for the first in line, who then looks after the next.
void Core::wake_waiting() {
  if (!waiting_flushes.empty() && !must_wait(*waiting_flushes.begin()))
    became_stable.notify_all();
  if (waits_for_spool && !spool_is_busy()) became_stable.notify_all();
  if (waits_for_sent && !unflushed.log.has_unsent()) became_stable.notify_all();
  if (!waiting_for_room.empty() && has_room_for(*waiting_for_room.front()))
    waiting_for_room.front()->turn.notify_one();
}

void Core::wake_workers() {
  replay_work.notify_one();
  send_work.notify_one();
  spool_work.notify_one();
}

void Core::wake_if_room_is_due() {
  if (is_room_due()) replay_work.notify_one();
}

Result<upstream::Lease> Core::lease() {
  bool stopped = false;
  Result<upstream::Lease> lease = share.lease(&stopped);
  if (stopped) {
    MutexLock lock(mutex);
    resumed = clock.now();
  }
  return lease;
}

// --- Changes --------------------------------------------------------------

void Core::enqueue(Change& change) {
  ++changes_begun;
  queue.add(change);
}

void Core::find_leaders() {
  lead_append();
  while (requested_ < std::min<size_t>(queue.ready_count(), share.limit())) {
    std::optional<Result<upstream::Lease>> lease = share.lease_or_wait(*this);
    if (lease)
      lead(std::move(*lease));
    else
      ++requested_;
  }
}

// The pool's answer to a wait of find_leaders(), on any thread.
void Core::granted(Result<upstream::Lease> lease) noexcept {
  MutexLock lock(mutex);
  assert(requested_ > 0);
  --requested_;
  if (queue.ready_count() > 0) lead(std::move(lease));
  find_leaders();
  // A lease that nobody needs goes with the parameter, after the mutex.
}

// The oldest ready change leads with that lease, or learns why there is none.
void Core::lead(Result<upstream::Lease> lease) {
  Change* const leader = queue.oldest_ready();
  leader->batch = queue.take_batch(*leader);
  leader->leads = true;
  if (lease.ok())
    leader->lease = std::move(lease.value());
  else
    leader->result = lease.status();
  const ByteRange range = range_of(leader->batch);
  UPLOAD_DEBUG(queue, "queue: %zu changes, %" PRIu64 " bytes at offset %" PRIu64 " go together",
               leader->batch.size(), range.length, range.offset);
  leader->turn.notify_one();
}

// Whoever is the oldest of those that belong into the spool appends for all that wait, one
// at a time.
void Core::lead_append() {
  if (appending) return;
  Change* const leader = queue.oldest_ready(true);
  if (leader == nullptr) return;
  appending = true;
  leader->batch = queue.take_for_spool(journal::Spool::kMostAppended);
  leader->leads = true;
  leader->turn.notify_one();
}

void Core::finish(const std::vector<Change*>& changes, const Status& result) {
  queue.finish(changes);
  for (Change* change : changes) {
    if (budget.release(*change)) wake_waiting();
    change->result = result;
    if (result.ok() && !change->exclusive) ++changes_acknowledged;
    // Under the mutex: once it is free the change may cease to exist.
    change->turn.notify_one();
  }
  if (std::exchange(senders_stuck, false)) send_work.notify_one();
  find_leaders();  // for changes that these had blocked
}

bool Core::hold(HeldRanges& ranges) {
  for (Change& range : ranges) {
    range.exclusive = true;
    queue.add(range);
  }
  bool held = true;
  for (Change& range : ranges) {
    while (range.state == Change::State::kBlocked) range.turn.wait(mutex);
    held = held && range.state == Change::State::kTaken;
  }
  if (!held) let_go(ranges);
  return held;
}

void Core::let_go(HeldRanges& ranges) {
  std::vector<Change*> taken;
  for (Change& range : ranges)
    if (range.state == Change::State::kTaken) taken.push_back(&range);
  finish(taken, {});
  wake_waiting();
}

// --- Questions ------------------------------------------------------------

bool Core::belongs_into_spool(ByteRange range) const {
  return spool_state == SpoolState::kSpooling || unflushed.rows().overlaps(range);
}

bool Core::has_room_for(const Change& change, bool own) const {
  return budget.has_room_for(Budget::data_bytes(change), spool_state == SpoolState::kSpooling,
                             unflushed.rows().used(), own);
}

// A flush does not free what orphans take: while there are any, only if somebody waits. While there
// is more to send than to flush, sending it comes first: a flush now makes little room.
bool Core::is_room_due() const {
  const journal::ReplayLog& log = unflushed.log;
  if (making_room || !log.is_dirty() || log.unsent_bytes() > log.carried_bytes()) return false;
  return room_wanted || (log.half_full() && !log.has_orphans_in_memory());
}

bool Core::must_wait(uint64_t acknowledged) const {
  using Wait = journal::ReplayLog::Wait;
  if (!options.spool_local && unflushed.log.waits_for(Wait::kRows, acknowledged)) return true;
  // While spooling, all that is in memory moves to the spool.
  return unflushed.log.waits_for(
      spool_state == SpoolState::kSpooling ? Wait::kMemory : Wait::kSending, acknowledged);
}

bool Core::spool_is_busy() const {
  if (spool_state == SpoolState::kSpooling)
    return !unflushed.rows().empty() || appending || unflushed.log.has_orphans_or_rows() ||
           unflushed.log.has_unsent();
  return spool_state == SpoolState::kDraining;
}

TimePoint Core::give_up_on_spool_at(TimePoint start) const {
  if (spool_state == SpoolState::kDirect) return TimePoint::max();
  const TimePoint since = std::max({start, drain_progress.held_back_until(), resumed});
  const Duration attempt = options.turns * options.longest_attempt;
  // What the spool satisfies waits for the end of an attempt, not for the server.
  const Duration time = options.retry_time + (options.spool_local ? attempt : Duration::zero());
  const TimePoint failing =
      std::max(since, drain_progress.failing_since().value_or(last_success));
  if (drain_progress.failed_attempts() >= Retry::kFewestAttempts) return failing + time;
  return failing + time + Retry::kFewestAttempts * attempt;
}

Status Core::waited_for_spool(const char* doing) const {
  return {Kind::kUnavailable,
          options.name + ": could not " + doing + ": " + left_in_spool() +
              format(", which has taken nothing for %lld seconds (retry-time=)",
                     seconds(options.retry_time))};
}

std::string Core::left_in_spool() const {
  return format("%zu changes of together %" PRIu64
                " bytes are in the spool %s and not on "
                "the server yet",
                unflushed.rows().count(), unflushed.rows().used(), options.spool->path().c_str());
}

std::string Core::not_on_server() const {
  if (!unflushed.rows().empty())
    return left_in_spool() +
           "; they are kept, and the next start with this url= and spool= "
           "sends them";
  // Without content kept, a loss has latched.
  if (health.latched() || !options.keeps_content()) return "";
  const uint64_t orphans = unflushed.log.bytes_to_send();
  if (orphans == 0) return "";
  return format("%" PRIu64 " acknowledged bytes are not on the server, and are lost", orphans);
}

std::optional<TimePoint> Core::in_doubt(const Pieces& pieces) {
  std::optional<TimePoint> latest;
  for (const Piece& piece : pieces) {
    const auto until = late_copies.until(piece.range, piece.sequence, clock.now());
    if (until && (!latest || *until > *latest)) latest = until;
  }
  return latest;
}

// --- What has happened ----------------------------------------------------

void Core::latch(const Status& why) {
  // A text of its own: it is repeated long after the request it comes from.
  const bool named = why.text().compare(0, options.name.size(), options.name) == 0;
  const Status status = named ? why : why.while_doing(options.name);
  {
    MutexLock lock(mutex);
    if (health.over()) return;
    latch_now(status);
  }
  say_latched(status);
}

void Core::latch_now(const Status& why) {
  health.latch(why);
  finish(queue.waiting(), why);
  wake_all();
  wake_workers();
}

void Core::stop() {
  MutexLock lock(mutex);
  health.stop();
  wake_workers();
  wake_all();
}

void Core::say_what_is_left(const char* why) {
  std::string left;
  {
    MutexLock lock(mutex);
    if (!std::exchange(said_what_is_left_, true)) left = not_on_server();
  }
  if (why == nullptr && left.empty()) return;
  const char* const between = why == nullptr || left.empty() ? "" : "; ";
  log::warning("%s: %s%s%s", options.name.c_str(), why == nullptr ? "" : why, between,
               left.c_str());
}

void Core::say_latched(const Status& why) {
  log::warning("every request fails from now on: %s", why.text().c_str());
}

Status Core::latched() const { return latched_or(Status()); }

Status Core::latched_or(const Status& failure) const {
  MutexLock lock(mutex);
  if (!health.latched() && health.stopping() && !failure.ok())
    return {Kind::kShutdown, failure.text() + " (nbdkit is to end)"};
  return health.latched().value_or(failure);
}

void Core::note_outage(const Status& why) {
  {
    MutexLock lock(mutex);
    if (health.in_outage()) return;
    health.begin_outage(clock.now());
    outage_ = true;
  }
  log::warning("trying again for up to %lld seconds: %s", seconds(options.retry_time),
               why.text().c_str());
}

void Core::note_success() {
  if (!outage_) return;
  Duration outage;
  {
    MutexLock lock(mutex);
    if (!health.in_outage() || health.latched() || unflushed.log.has_orphans_or_rows() ||
        spool_state != SpoolState::kDirect)
      return;
    outage = health.end_outage(clock.now());
    outage_ = false;
  }
  log::warning("%s: recovered after %.1f seconds, nothing is lost", options.name.c_str(),
               std::chrono::duration<double>(outage).count());
}

void Core::note_answer(TimePoint began) {
  if (!has_unknown_copies_) return;
  MutexLock lock(mutex);
  if (!late_copies.answered(began, clock.now())) return;
  has_unknown_copies_ = late_copies.any_unknown();
  state_changed.notify_all();
  wake_workers();
}

void Core::note_attempt(TimePoint began) {
  if (clock.now() - began <= options.longest_attempt) return;
  MutexLock lock(mutex);
  resumed = clock.now();
}

void Core::note_late_copy(ByteRange range, ByteRange own, uint64_t sequence) {
  late_copies.add(range, own, sequence, clock.now());
  has_unknown_copies_ = true;
}

VolumeFigures Core::figures() const {
  VolumeFigures figures;
  figures.size = options.size;
  figures.requests = stats.counts();
  figures.retries = stats.retries();
  MutexLock lock(mutex);
  figures.failed = health.latched().has_value();
  figures.outage = health.in_outage();
  figures.outages = health.outages();
  figures.outage_time = health.outage_time(clock.now());
  if (options.keeps_content())
    figures.log = LogFigures{.used = log_memory->used(),
                             .limit = log_memory->limit(),
                             .to_send = unflushed.log.bytes_to_send()};
  if (options.spool) {
    SpoolFigures& spool = figures.spool.emplace();
    spool.state = spool_state;
    spool.rows = unflushed.rows().count();
    spool.used = unflushed.rows().used();
    if (options.spool_size != UINT64_MAX) spool.limit = options.spool_size;
  }
  return figures;
}

void Core::note_draining_fails(TimePoint began) {
  if (drain_progress.failed(began, clock.now(), Retry::kFewestAttempts)) wake_all();
}

}  // namespace upload::volume
