// SPDX-License-Identifier: BSD-3-Clause
//
// The spool: where changes are kept while the server is away.
//
//   direct      changes go to the server; nothing is on the disk
//   spooling    the server does not answer: changes become rows of the
//               spool, and the log in memory moves there; the server is asked
//               again and again, with nothing held meanwhile
//   draining    it answers: rows go to the server, the oldest first; changes
//               go to the server too, except where there are rows
//
// enter_spooling is the way from the first or the third to the second, drain
// from the second to the third, end_spooling back to the first.
//
// What holds at any time: of each byte that a row is about, the newest
// acknowledged content is in the spool, in the newest of those rows. So after
// kill -9 the rows, in their order, are all that has to be known:
//   - a change that overlaps a row becomes a row itself (belongs_into_spool,
//     asked while the change has its range to itself);
//   - the log moves while its range is held, so that nothing newer is
//     acknowledged for it meanwhile;
//   - rows are dropped, in one transaction, when what they have is stable on
//     the server and no older row is left that they hide, while their range
//     is held.
//
// Threads: a change is appended by the thread of the oldest change that
// waits, together with all others that wait, in one transaction (group
// commit); everything else is done by the spool's own, so that a disk that hangs keeps
// neither the replay nor the making of room from the server.

#include <boost/icl/interval_set.hpp>
#include <algorithm>
#include <cassert>
#include <chrono>
#include <cinttypes>
#include <new>
#include <set>

#include "base/log.h"
#include "base/process_stop.h"
#include "volume/volume.h"

namespace upload::volume {

namespace {

// In one transaction: enough that syncing does not matter.
constexpr uint64_t kMostAppended = uint64_t{16} << 20;
// Worth a transaction.
constexpr size_t kManyDead = 64;
// With a disk that is full.
constexpr Duration kDiskAgain = std::chrono::seconds(1);
// The server may be away for as long as there is room.
constexpr Duration kForever = std::chrono::hours(10 * 365 * 24);

// Rows outlive the process, and with it the clock. In seconds since 1970.
int64_t wall_time(const Clock& clock, Duration from_now) {
  const WallTime when =
      clock.wall_now() + std::chrono::duration_cast<WallTime::duration>(from_now);
  return std::chrono::ceil<std::chrono::seconds>(when.time_since_epoch()).count();
}

Duration until_wall_time(const Clock& clock, int64_t when) {
  return std::chrono::duration_cast<Duration>(WallTime(std::chrono::seconds(when)) -
                                              clock.wall_now());
}

}  // namespace

bool Volume::has_dead_rows() const {
  return dead_rows_.size() >= kManyDead ||
         (!dead_rows_.empty() && rows_.used() > options_.spool_size / 2);
}

// --- Patience -------------------------------------------------------------

// Until when something that began at `start` waits for the server to take
// what is in the spool: for the retry time, and until some attempts have failed,
// however long one may take.
TimePoint Volume::patience(TimePoint start) const {
  if (state_ == State::kDirect) return TimePoint::max();
  const TimePoint since = std::max({start, held_back_until_, woken_late_});
  // What the spool satisfies waits for the end of an attempt, not for the server.
  const Duration time = options_.retry_time +
                        (options_.spool_local ? options_.longest_attempt : Duration::zero());
  const TimePoint failing = std::max(since, failing_since_.value_or(last_success_));
  if (failed_attempts_ >= Retry::kFewestAttempts) return failing + time;
  return failing + time + Retry::kFewestAttempts * options_.longest_attempt;
}

void Volume::note_draining_fails() {
  if (!failing_since_) failing_since_ = clock_.now();
  // Who waits has an end now.
  if (++failed_attempts_ <= Retry::kFewestAttempts) wake_all();
}

void Volume::note_draining_works() {
  if (!spools()) return;
  MutexLock lock(mutex_);
  forget_draining_fails();
}

void Volume::forget_draining_fails() {
  failing_since_.reset();
  failed_attempts_ = 0;
}

// After a wait that was to end then at the latest.
void Volume::note_late_waking(TimePoint planned) {
  const TimePoint now = clock_.now();
  if (now - planned > kStopped) woken_late_ = now;
}

// After an attempt that began then.
void Volume::note_long_attempt(TimePoint began) {
  if (clock_.now() - began <= options_.longest_attempt) return;
  MutexLock lock(mutex_);
  woken_late_ = clock_.now();
}

std::string Volume::left_in_spool() const {
  return format("%zu changes of together %" PRIu64 " bytes are in the spool %s and not on "
                "the server yet", rows_.count(), rows_.used(), options_.spool->path().c_str());
}

Status Volume::out_of_patience(const char* doing) const {
  return {Kind::kUnavailable,
          options_.name + ": could not " + doing + ": " + left_in_spool() +
              format(", which has taken nothing for %lld seconds (retry-time=)",
                     seconds(options_.retry_time))};
}

Status Volume::wait_for_leftovers() {
  MutexLock lock(mutex_);
  const TimePoint start = clock_.now();
  while (has_leftovers_) {
    if (latched_) return *latched_;
    if (stopping_) return {Kind::kShutdown, "the plugin is shutting down"};
    if (clock_.now() >= patience(start)) return out_of_patience("open the disk");
    wait_for(changed_, patience(start));
  }
  return {};
}

bool Volume::spool_is_busy() const {
  if (state_ == State::kSpooling) return !rows_.empty() || appending_ || log_.has_orphans();
  return state_ == State::kDraining;
}

void Volume::wait_for_spool(Duration patience) {
  MutexLock lock(mutex_);
  const TimePoint start = clock_.now();
  waits_for_spool_ = true;
  while (spool_is_busy() && !latched_ && !stopping_) {
    const TimePoint give_up =
        failing_since_ ? std::max({start, *failing_since_, held_back_until_}) + patience
                       : TimePoint::max();
    if (clock_.now() >= give_up) break;
    wait_for(stable_, give_up);
  }
  waits_for_spool_ = false;
}

// --- Into the spool -------------------------------------------------------

// The answer stays true while the caller has the range to itself.
bool Volume::belongs_into_spool(ByteRange range) const {
  return spools() && (state_ == State::kSpooling || rows_.overlaps(range));
}

void Volume::run_spool() {
  for (;;) {
    switch (wait_for_spooling()) {
      case Spooling::kStop: return;
      case Spooling::kMove: move_to_spool(); break;
      case Spooling::kDrain: drain(); break;
      case Spooling::kDropDead: drop_dead_rows(); break;
      case Spooling::kEnd: end_spooling(); break;
    }
  }
}

Volume::Spooling Volume::wait_for_spooling() {
  MutexLock lock(mutex_);
  for (;;) {
    if (stopping_) return Spooling::kStop;
    const auto work = latched_ ? std::nullopt : next_spooling();
    if (work) return *work;
    TimePoint until = TimePoint::max();
    for (const TimePoint when : {next_move_, next_drain_})
      if (when > clock_.now()) until = std::min(until, when);
    wait_for(spool_work_, until);
  }
}

std::optional<Volume::Spooling> Volume::next_spooling() const {
  if (state_ == State::kDirect) return std::nullopt;
  const TimePoint now = clock_.now();
  const bool spooling = state_ == State::kSpooling;
  if (spooling && now >= next_move_ && log_.has_in_memory()) return Spooling::kMove;
  if (has_dead_rows()) return Spooling::kDropDead;
  // Also without rows: somebody has to find out that the server is back.
  if (spooling || !rows_.empty())
    return now >= next_drain_ ? std::optional(Spooling::kDrain) : std::nullopt;
  if (appending_ || queue_.ready_count(true) > 0) return std::nullopt;
  return Spooling::kEnd;
}

// A request failed, and so did its repetition. The server is left alone until
// `until`.
void Volume::enter_spooling(const Status& why, TimePoint until) {
  {
    MutexLock lock(mutex_);
    next_drain_ = std::max(next_drain_, until);
    if (state_ == State::kSpooling || latched_) return;
    state_ = State::kSpooling;
    queue_.set_spooling(true);
    note_draining_fails();
    request_leases();
    wake_workers();
    wake_all();
  }
  log::warning("%s: the server does not answer, changes go to the spool %s from now on: %s",
               options_.name.c_str(), options_.spool->path().c_str(), why.text().c_str());
}

// Whoever is the oldest appends for all that wait, one at a time.
void Volume::lead_append() {
  if (appending_) return;
  Change* const leader = queue_.oldest_ready(true);
  if (leader == nullptr) return;
  appending_ = true;
  leader->batch = queue_.take_for_spool(kMostAppended);
  leader->leads = true;
  leader->woken.notify_one();
}

// A new row; null `data`: zeroes.
journal::SpoolContent Volume::make_row(ByteRange range, uint64_t change, const void* data) {
  const TimePoint now = clock_.now();
  const auto doubt = late_copies_.until(range, change, now);
  const int64_t not_before = !doubt                             ? 0
                             : *doubt == LateCopies::kUnknown ? INT64_MAX
                                                              : wall_time(clock_, *doubt - now);
  return {{++last_row_, range, change, data == nullptr, not_before}, data};
}

// A disk that is full has changed nothing, and may have room later. So it is with memory.
void Volume::latch_unless_full(const Status& failure) {
  if (failure.kind() != Kind::kNoSpace && failure.kind() != Kind::kNoMemory) latch(failure);
}

// Makes rows of the batch, and finishes it.
void Volume::append(const Change& leader) {
  std::vector<journal::SpoolContent> contents;
  {
    MutexLock lock(mutex_);
    for (const Change* change : leader.batch)
      contents.push_back(make_row(change->range, change->sequence, change->data));
  }
  std::vector<Status> results(contents.size(), options_.spool->append(contents));
  // A large one must not keep the others out of what is left of the disk.
  const bool full =
      results.front().kind() == Kind::kNoSpace || results.front().kind() == Kind::kNoMemory;
  if (full && results.size() > 1)
    for (size_t i = 0; i < contents.size(); ++i)
      results[i] = options_.spool->append({&contents[i], 1});
  for (const Status& result : results)
    if (!result.ok()) latch_unless_full(result);
  UPLOAD_DEBUG(journal, "spool: %zu changes appended: %s", contents.size(),
               results.front().ok() ? "ok" : results.front().text().c_str());
  MutexLock lock(mutex_);
  appending_ = false;
  wake_workers();
  for (size_t i = 0; i < contents.size(); ++i) {
    if (!results[i].ok()) continue;
    // It may have been on its way here since before the spool was drained.
    if (state_ == State::kDirect) {
      state_ = State::kDraining;
      wake_all();
    }
    add_row(contents[i].row);
  }
  const std::vector<Change*> batch = leader.batch;  // goes with the leader
  for (size_t i = 0; i < batch.size(); ++i)
    finish({batch[i]}, results[i].while_doing(options_.name));
}

// The row is in the store. It is the newest content of its range.
void Volume::add_row(const journal::SpoolRow& row) {
  std::set<uint64_t> hidden;
  for (const journal::Slice& slice : log_.slices(row.range))
    if (slice.record->row != 0) hidden.insert(slice.record->row);
  rows_.add(row);
  log_.add(journal::ReplayLog::make_record(row), journal::ReplayLog::kNone);
  for (const uint64_t id : hidden) {
    const journal::SpoolRow& other = *rows_.find(id);
    if (other.sequence > partly_sent_ && !is_seen(other)) dead_rows_.push_back(id);
  }
}

// Is some byte of the row not hidden, and not yet sent?
bool Volume::is_seen(const journal::SpoolRow& row) const {
  const std::vector<journal::Slice> slices = log_.slices(row.range);
  return std::any_of(slices.begin(), slices.end(), [&](const journal::Slice& slice) {
    return slice.record->row == row.id;
  });
}

// Moves the first stretch of the log in memory.
void Volume::move_to_spool() {
  std::list<Change> held(1);
  std::vector<journal::Slice> slices;
  std::vector<journal::SpoolContent> contents;
  {
    MutexLock lock(mutex_);
    const auto range = log_.first_in_memory(kMostAppended);
    if (!range || latched_) return;
    held.front().range = *range;
    if (!hold(held)) return;
    for (journal::Slice& slice : log_.slices(*range)) {
      const journal::Record& record = *slice.record;
      if (record.row != 0) continue;
      contents.push_back(
          make_row(slice.range, record.change, record.at(slice.range.offset)));
      slices.push_back(std::move(slice));
    }
  }
  const Status status = options_.spool->append(contents);
  if (!status.ok()) latch_unless_full(status);
  slices.clear();
  MutexLock lock(mutex_);
  if (status.ok()) {
    for (const journal::SpoolContent& content : contents) {
      rows_.add(content.row);
      log_.move(journal::ReplayLog::make_record(content.row));
      // Unless a flush that was under way has made it stable meanwhile.
      if (!is_seen(content.row)) dead_rows_.push_back(content.row.id);
    }
  } else {
    next_move_ = clock_.now() + kDiskAgain;
  }
  let_go(held);
}

// --- Out of the spool -----------------------------------------------------

// Sends the oldest rows, as far as newer ones don't hide them, and drops them.
void Volume::drain() {
  std::vector<journal::SpoolRow> rows;
  std::vector<journal::Slice> slices;
  std::list<Change> held;
  bool ask = false;
  {
    MutexLock lock(mutex_);
    // Its answer tells, too, how long late copies may come.
    ask = state_ == State::kSpooling || late_copies_.any_unknown();
  }
  if (ask)
    if (const Status status = probe(); !status.ok()) return drain_failed(status);
  {
    MutexLock lock(mutex_);
    rows = rows_.oldest(options_.limits.max_request, options_.limits.max_zero, most_rows_);
    if (!rows.empty() && !hold_rows(rows, held)) return;
    slices = slices_to_send(rows);
    if (rows.empty() && !held.empty()) return let_go(held);
    if (!rows.empty()) partly_sent_ = std::max(partly_sent_, rows.back().sequence);
    replay_from_ = 0;
  }
  // Without rows: what did not get into the spool.
  const Status status = rows.empty() ? replay() : send_rows(slices);
  if (status.ok() && drop_rows(rows)) drained(rows);
  {
    MutexLock lock(mutex_);
    let_go(held);
  }
  if (!status.ok()) drain_failed(status);
}

// Does the server answer? Whoever finds out must not hold any range: it may
// take as long as the time-outs.
Status Volume::probe() {
  Result<pool::Lease> lease = pool_.lease();
  if (!lease.ok()) return lease.status();
  lease.value().replace_if_closed();
  const TimePoint start = clock_.now();
  const Status status = ask_options(lease.value());
  note_long_attempt(start);
  if (status.ok()) {
    note_answer(start);
    return status;
  }
  judge(lease.value(), Purpose::kRead, status);
  // It answers, whatever it thinks of this question.
  if (status.kind() == Kind::kRejected) return {};
  return status.while_doing(options_.name + ": could not OPTIONS");
}

// Holds all ranges that the rows are about.
bool Volume::hold_rows(const std::vector<journal::SpoolRow>& rows, std::list<Change>& held) {
  boost::icl::interval_set<uint64_t> ranges;
  for (const journal::SpoolRow& row : rows)
    ranges.add(boost::icl::interval<uint64_t>::right_open(row.range.offset, row.range.end()));
  for (const auto& range : ranges)
    held.emplace_back().range = {range.lower(), range.upper() - range.lower()};
  return hold(held);
}

// What is to be sent of the rows, in the order of offsets. From the first row
// on to which a late copy of something else may come, they stay for later.
std::vector<journal::Slice> Volume::slices_to_send(std::vector<journal::SpoolRow>& rows) {
  std::vector<journal::Slice> all;
  std::optional<TimePoint> doubt;
  auto row = rows.begin();
  for (; row != rows.end(); ++row) {
    std::vector<journal::Slice> slices = log_.slices(row->range);
    std::erase_if(slices, [&](const journal::Slice& slice) {
      return slice.record->row != row->id;
    });
    for (const journal::Slice& slice : slices)
      if (!doubt)
        doubt = late_copies_.until(slice.range, slice.record->change, clock_.now());
    if (doubt) break;
    std::move(slices.begin(), slices.end(), std::back_inserter(all));
  }
  if (row == rows.begin() && doubt) next_drain_ = *doubt;
  if (doubt && *doubt != LateCopies::kUnknown) held_back_until_ = *doubt;
  rows.erase(row, rows.end());
  std::sort(all.begin(), all.end(), [](const journal::Slice& a, const journal::Slice& b) {
    return a.range.offset < b.range.offset;
  });
  return all;
}

// Makes the content of the slices stable on the server. What was achieved is kept,
// however often connections are lost: the log forgets it, and only the rest of the rows
// is sent the next time. The rows stay until all of them is stable.
Status Volume::send_rows(const std::vector<journal::Slice>& slices) {
  std::vector<std::unique_ptr<std::byte[]>> buffers;
  Pieces pieces;
  for (const journal::Slice& slice : slices) {
    const journal::Record& record = *slice.record;
    std::byte* data = nullptr;
    if (!record.zero) {
      try {
        buffers.push_back(std::make_unique_for_overwrite<std::byte[]>(slice.range.length));
      } catch (const std::bad_alloc&) {
        return {Kind::kNoMemory, "out of memory for what is in the spool"};
      }
      data = buffers.back().get();
      const Result<bool> there = read_row(slice, data);
      if (!there.ok()) return there.status();
      assert(there.value());  // only this thread drops rows
    }
    pieces.push_back({slice.range, data, record.change});
  }
  const std::vector<Pieces> runs = runs_of(pieces);
  for (std::span<const Pieces> left = runs; !left.empty();) {
    const Result<size_t> sent = send_some(left);
    if (!sent.ok()) return sent.status();
    drain_retry_.reset();
    left = left.subspan(sent.value());
  }
  return {};
}

// False: they stay, and will be sent again.
bool Volume::drop_rows(const std::vector<journal::SpoolRow>& rows) {
  std::vector<uint64_t> ids;
  for (const journal::SpoolRow& row : rows) ids.push_back(row.id);
  const Status status = options_.spool->drop(ids);
  if (status.ok()) return true;
  latch_unless_full(status);
  MutexLock lock(mutex_);
  note_draining_fails();
  // Dropping takes room too, less for fewer.
  most_rows_ = std::max<size_t>(1, most_rows_ / 2);
  next_drain_ = clock_.now() + kDiskAgain;
  return false;
}

// The server has the rows, and the store has them no more.
void Volume::drained(const std::vector<journal::SpoolRow>& rows) {
  uint64_t left = 0;
  bool began = false;
  drain_retry_.reset();
  {
    MutexLock lock(mutex_);
    std::set<uint64_t> dropped;
    for (const journal::SpoolRow& row : rows) {
      rows_.remove(row);
      dropped.insert(row.id);
    }
    std::erase_if(dead_rows_, [&](uint64_t id) { return dropped.contains(id); });
    most_rows_ = std::min(kMostRows, most_rows_ * 2);
    began = state_ == State::kSpooling;
    state_ = State::kDraining;
    queue_.set_spooling(false);
    wake_workers();  // what is left in memory is replayed
    left = rows_.used();
  }
  if (began)
    log::warning("%s: the server answers again, %" PRIu64 " bytes in the spool are sent to it",
                 options_.name.c_str(), left);
}

// Tries again at once, then after growing pauses, for as long as it takes.
void Volume::drain_failed(const Status& failure) {
  {
    MutexLock lock(mutex_);
    if (latched_ || stopping_) return;
    note_draining_fails();
    // Less is more likely to get through, where much is lost.
    most_rows_ = std::max<size_t>(1, most_rows_ / 2);
  }
  // Often enough that whoever has lost patience has seen it fail a few times.
  if (!drain_retry_)
    drain_retry_.emplace(
        clock_,
        Retry::Limits{.total = kForever,
                      .pause = std::min(Retry::kLongestPause, options_.retry_time / 4),
                      .asked = std::min(Retry::kLongestAsked, options_.retry_time / 4)});
  const std::optional<TimePoint> when = drain_retry_->next(memory_passes(failure));
  if (!when) {
    std::string left;
    {
      MutexLock lock(mutex_);
      left = left_in_spool();
    }
    return latch(failure.while_doing(left));
  }
  note_outage(failure);
  if (*when > clock_.now()) enter_spooling(failure, *when);
}

// Gives the room of rows back of which newer ones hide everything.
void Volume::drop_dead_rows() {
  std::vector<uint64_t> dead;
  {
    MutexLock lock(mutex_);
    dead.swap(dead_rows_);
  }
  // On a disk that is full they go later, with the others.
  if (const Status status = options_.spool->drop(dead); !status.ok())
    return latch_unless_full(status);
  MutexLock lock(mutex_);
  for (const uint64_t id : dead) rows_.remove(journal::SpoolRow(*rows_.find(id)));
  wake_waiting();
}

void Volume::end_spooling() {
  const Status status = options_.spool->shrink();
  if (!status.ok()) return latch(status);
  {
    MutexLock lock(mutex_);
    // Unless more has come, or the server has gone again.
    if (next_spooling() != Spooling::kEnd) return;
    state_ = State::kDirect;
    forget_draining_fails();
    queue_.set_spooling(false);
    has_leftovers_ = false;
    wake_all();
  }
  log::warning("%s: the spool is empty, changes go to the server again",
               options_.name.c_str());
  note_success();
}

// --- At the start ---------------------------------------------------------

// What an earlier process could not send, and what it may have under way.
void Volume::take_leftovers() {
  const std::vector<journal::SpoolRow> rows = options_.spool->take_rows();
  const TimePoint now = clock_.now();
  for (const journal::SpoolRow& row : rows) {
    add_row(row);
    last_row_ = std::max(last_row_, row.id);
    if (row.not_before == 0) continue;
    const Duration wait = row.not_before == INT64_MAX
                              ? options_.late
                              : std::min(until_wall_time(clock_, row.not_before), options_.late);
    if (wait > Duration::zero())
      late_copies_.add_until(row.range, UINT64_MAX, UINT64_MAX, now + wait);
  }
  const ByteRange disk{0, size()};
  if (rows.empty()) {
    if (options_.unclean_start)
      late_copies_.add_until(disk, UINT64_MAX, UINT64_MAX, now + options_.late);
    return;
  }
  const uint64_t last = rows.back().sequence;
  queue_.set_last_sequence(last);
  // Rows may go at once: what may come late to a row's range is the row itself,
  // or was known when the row was made.
  late_copies_.add_until(disk, 1, last, now + options_.late);
  state_ = State::kDraining;
  has_leftovers_ = true;
}

bool Volume::keep_spool() {
  if (!spools()) return false;
  options_.spool->keep();
  bool empty = false;
  {
    MutexLock lock(mutex_);
    empty = rows_.empty();
  }
  if (empty)
    log::warning("%s: the spool %s stays, empty: it tells the next start that the server may "
                 "still apply requests that have failed", options_.name.c_str(),
                 options_.spool->path().c_str());
  return true;
}

}  // namespace upload::volume
