// SPDX-License-Identifier: BSD-3-Clause
//
// The data path, in the order in which a write runs through it:
//
//   write, zero    make a Change on the caller's stack
//   commit         queue it; wait until it has become part of a batch that
//                  was sent (follow), or leads one (lead)
//   assign         when a connection is free: the oldest ready change leads,
//                  and takes the run of adjacent changes around it
//   lead           try until it is sent or given up, or belongs into the spool
//   send           one request for the batch, and what its failure means
//   acknowledge    what a flush will have to cover
//   finish         wake the threads of the batch
//
// While changes go into the spool, append (spooling.cpp) takes the place of
// what is between commit and finish.
//
// A write goes out at once when a connection is free; batches form only while
// all are busy. Each caller's thread holds its own buffer until its change is
// done, so nothing is copied on the way to libcurl.
//
// The order of steps around a reply is what keeps the invariants:
//   - a connection is entered into the log as dirty before its lease is given back and
//     before the change is acknowledged, so no flush can miss it (5);
//   - a failed connection is given back, which latches the error of every
//     volume that was dirty on it, before the failure is returned (2, 6);
//   - a connection that died while it was idle is noticed before a change is
//     sent on its replacement, and then the change is not sent (2).
//   - the range of a change whose fate is unknown takes no further change: the
//     server may still be at it, and would overwrite what comes later (7).
// What each failure means is in failures.cpp and docs/architecture.md,
// "Without and with replay".
//
// No lease is given back while mutex_ is held: it calls back into volumes.
// Out of memory in the book-keeping ends the process (noexcept): a change of
// a thread that has gone must not stay in the queue.

#include "volume/volume.h"

#include <algorithm>
#include <cassert>
#include <cinttypes>
#include <exception>
#include <utility>

#include "base/log.h"
#include "base/process_stop.h"

namespace upload::volume {

namespace {

uint64_t data_bytes(const Change& change) {
  return change.is_zero() ? 0 : change.range.length;
}

}  // namespace

Volume::Volume(VolumeOptions options, pool::Pool& pool, Clock& clock, Stats& stats)
    : options_(std::move(options)),
      pool_(pool),
      clock_(clock),
      stats_(stats),
      log_memory_(std::make_shared<journal::Memory>(options_.replay)),
      queue_(options_.limits),
      late_copies_(options_.late),
      log_(log_memory_) {
  last_success_ = clock.now();
  assert(replays() || !spools());
  pool_.add_client(*this);
  if (spools()) {
    MutexLock lock(mutex_);
    take_leftovers();
  }
  if (replays()) recovery_ = Thread([this] { recover(); });
  if (!spools()) return;
  try {
    spool_ = Thread([this] { run_spool(); });
  } catch (...) {
    // There are no more threads. Nobody destroys this; so the first is ended here.
    request_stop();
    recovery_.join();
    pool_.remove_client(*this);
    throw;
  }
}

Volume::~Volume() {
  assert(!recovery_.joinable() && !spool_.joinable());
  pool_.remove_client(*this);
  MutexLock lock(mutex_);
  assert(queue_.empty() && requested_ == 0 && reserved_room_ == 0);
}

void Volume::request_stop() {
  MutexLock lock(mutex_);
  stopping_ = true;
  wake_workers();
  wake_all();
}

void Volume::join() {
  for (Thread* const thread : {&recovery_, &spool_})
    if (thread->joinable()) thread->join();
  std::string left;
  {
    MutexLock lock(mutex_);
    if (!std::exchange(told_what_is_left_, true)) left = not_on_server();
  }
  if (!left.empty()) log::warning("%s: %s", options_.name.c_str(), left.c_str());
}

bool Volume::server_is_away() {
  MutexLock lock(mutex_);
  return !latched_ && (outage_since_ || state_ == State::kSpooling);
}

void Volume::give_up() {
  std::string left;
  {
    MutexLock lock(mutex_);
    left = not_on_server();
    told_what_is_left_ = true;
  }
  log::warning("%s: nbdkit is to end and the server does not answer: requests that wait for it "
               "fail%s%s", options_.name.c_str(), left.empty() ? "" : "; ", left.c_str());
  request_stop();
}

// In words; empty: everything that was acknowledged is.
std::string Volume::not_on_server() const {
  if (!rows_.empty())
    return left_in_spool() + "; they are kept, and the next start with this url= and spool= "
                             "sends them";
  if (latched_ || !replays() || log_.empty()) return "";
  const uint64_t orphans = log_.orphan_bytes();
  if (orphans == 0) return "";
  return format("%" PRIu64 " acknowledged bytes are not on the server, and are lost", orphans);
}

// --- Changes --------------------------------------------------------------

Status Volume::write(ByteRange range, const void* data, bool fua) {
  // In pieces that fit into the replay log.
  const uint64_t most = replays() ? options_.replay / 2 : range.length;
  const auto* bytes = static_cast<const std::byte*>(data);
  while (range.length > 0) {
    Change change;
    change.range = {range.offset, std::min(range.length, most)};
    change.data = bytes;
    change.fua = fua;
    if (Status status = commit(change); !status.ok()) return status;
    bytes += change.range.length;
    range = {change.range.end(), range.length - change.range.length};
  }
  return {};
}

Status Volume::zero(ByteRange range, bool fua) {
  // In pieces that a server can write out within the time-out if it has to.
  while (range.length > 0) {
    Change change;
    change.range = {range.offset, std::min(range.length, options_.limits.max_zero)};
    change.fua = fua;
    if (Status status = commit(change); !status.ok()) return status;
    range = {change.range.end(), range.length - change.range.length};
  }
  return {};
}

Status Volume::commit(Change& change) noexcept {
  // Nothing beyond the end ever reaches the server.
  assert(change.range.length > 0 && change.range.end() <= size());
  {
    MutexLock lock(mutex_);
    if (Status status = admit(change); !status.ok()) return status;
    extents_.reset();
    ++changes_;
    // What is certain is asked by lead(); this saves the wait for a connection.
    change.spools = change.spools || belongs_into_spool(change.range);
    queue_.add(change);
  }
  for (;;) {
    {
      MutexLock lock(mutex_);
      request_leases();
      wait_for_turn(change);
      if (change.state == Change::State::kDone) break;
    }
    // This thread leads: the batch is its own until it is finished.
    if (change.spools) {
      append(change);
    } else if (!send_batch(change)) {
      MutexLock lock(mutex_);
      change.leads = false;
      queue_.put_back(change.batch);
    }
  }
  // What is in the spool is not on the server.
  if (change.result.ok() && change.spools && change.fua && !options_.spool_local)
    return flush();
  return change.result;
}

// Waits until the change may enter the queue, with room for it in the log.
Status Volume::admit(Change& change) {
  const TimePoint start = clock_.now();
  for (;;) {
    if (latched_) return *latched_;
    if (stopping_) return {Kind::kShutdown, "the plugin is shutting down"};
    std::optional<TimePoint> doubt;
    if (state_ != State::kSpooling)
      doubt = late_copies_.until(change.range, 0, clock_.now());
    if (doubt && !replays())
      return {Kind::kLost, options_.name + ": an earlier change here failed, and the server "
                                           "may still be applying it; start again"};
    if (doubt) {
      wait_for(changed_, *doubt);
      continue;
    }
    if (reserve(change)) return {};
    if (clock_.now() >= patience(start)) return out_of_patience("write");
    // The recovery thread makes room, or else latches.
    room_wanted_ = true;
    wake_workers();
    const auto waiting = waiting_for_room_.insert(data_bytes(change));
    wait_for(room_, patience(start));
    waiting_for_room_.erase(waiting);
  }
}

// What is in memory may have to move to the spool: there must be room for that too.
bool Volume::has_room_for(uint64_t bytes) const {
  const bool direct = state_ != State::kSpooling;
  const uint64_t memory = journal::ReplayLog::cost(bytes);
  const uint64_t room = direct ? memory : journal::SpoolIndex::cost(bytes);
  if (spools() &&
      rows_.used() + reserved_room_ + log_memory_->used() + room > options_.spool_size)
    return false;
  return !direct || log_memory_->used() + memory <= log_memory_->limit();
}

// Memory for its content, if it may be kept there; else room in the spool.
bool Volume::reserve(Change& change) {
  if (!replays()) return true;
  const uint64_t bytes = data_bytes(change);
  const bool direct = state_ != State::kSpooling;
  const bool logged = !change.fua && !always_stable();
  if (direct && !logged && !spools()) return true;
  if (!has_room_for(bytes)) return false;
  if (!direct) {
    change.room = journal::SpoolIndex::cost(bytes);
    reserved_room_ += change.room;
    change.spools = true;
    return true;
  }
  const uint64_t memory = journal::ReplayLog::cost(bytes);
  if (!log_memory_->reserve(memory)) return false;
  change.memory = memory;
  return true;
}

// Returns when the change is done or leads a batch.
void Volume::wait_for_turn(Change& change) {
  const TimePoint start = clock_.now();
  LastLook last_look;
  while (change.state != Change::State::kDone && !change.leads) {
    const TimePoint since = std::max(start, woken_late_);
    TimePoint give_up = pool_.give_up_at(since);
    // Those in front may be trying again.
    if (replays())
      give_up = std::max(give_up, std::max(since, last_success_.load()) + options_.retry_time +
                                      options_.late);
    if (change.state == Change::State::kTaken || change.spools) {
      // In a batch that is being sent, or on its way to the spool: that ends.
      change.woken.wait(mutex_);
    } else if (const auto until = last_look.wait_until(give_up, clock_.now())) {
      wait_for(change.woken, *until);
    } else {
      finish({&change}, pool_.wait_failure());
    }
  }
}

// Puts waits into the pool's line, one for each ready change but not more
// than can lead at a time.
void Volume::request_leases() {
  if (spools()) lead_append();
  while (requested_ < std::min<size_t>(queue_.ready_count(), pool_.limit())) {
    std::optional<Result<pool::Lease>> lease = pool_.lease_or_wait(*this);
    if (lease)
      assign(std::move(*lease));
    else
      ++requested_;
  }
}

// The pool's answer to a wait of request_leases(), on any thread.
void Volume::granted(Result<pool::Lease> lease) noexcept {
  MutexLock lock(mutex_);
  assert(requested_ > 0);
  --requested_;
  if (queue_.ready_count() > 0) assign(std::move(lease));
  request_leases();
  // A lease that nobody needs goes with the parameter, after the mutex.
}

// The oldest ready change leads with that lease. Without one all who wait
// fail; with a replay log, the leader tries again.
void Volume::assign(Result<pool::Lease> lease) {
  if (!lease.ok() && !(replays() && Retry::worthwhile(lease.status()))) {
    finish(queue_.waiting(), lease.status());
    return;
  }
  Change* const leader = queue_.oldest_ready();
  leader->batch = queue_.take_batch(*leader);
  leader->leads = true;
  if (lease.ok())
    leader->lease = std::move(lease.value());
  else
    leader->result = lease.status();
  const ByteRange range = range_of(leader->batch);
  UPLOAD_DEBUG(queue, "queue: %zu changes, %" PRIu64 " bytes at offset %" PRIu64 " go together",
               leader->batch.size(), range.length, range.offset);
  leader->woken.notify_one();
}

// Sends the batch and finishes it. False: it is not sent, and belongs into
// the spool.
bool Volume::send_batch(Change& leader) {
  std::optional<pool::Lease> lease = std::exchange(leader.lease, std::nullopt);
  const std::optional<Status> result = lead(lease, leader);
  if (!result || !result->ok()) lease.reset();  // latch before the failure is known
  if (!result) return false;
  std::vector<journal::RecordPtr> records;
  if (result->ok() && replays() && !leader.fua && !always_stable() &&
      !make_records(leader.batch, records)) {
    // The server has it, and nobody could send it again.
    const Status failure(Kind::kNoMemory, options_.name + ": out of memory for the replay log");
    judge(*lease, Purpose::kStableChange, failure);
    lease.reset();
    MutexLock lock(mutex_);
    // A record that was made gives its memory back by itself.
    for (size_t i = 0; i < records.size(); ++i) leader.batch[i]->memory = 0;
    finish(leader.batch, failure);
    return true;
  }
  MutexLock lock(mutex_);
  if (result->ok()) acknowledge(leader.batch, lease->id(), std::move(records));
  finish(leader.batch, *result);
  return true;
  // The mutex goes first, then the lease.
}

// False: there is no memory for them.
bool Volume::make_records(const std::vector<Change*>& batch,
                          std::vector<journal::RecordPtr>& records) {
  try {
    records.reserve(batch.size());  // so that no record is made and not kept
    for (const Change* each : batch)
      records.push_back(journal::ReplayLog::make_record(log_memory_, each->range,
                                                        each->sequence, each->data));
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

// Gets the batch to the server; with a replay log, tries until it is given
// up. Nothing: it belongs into the spool.
std::optional<Status> Volume::lead(std::optional<pool::Lease>& lease, const Change& leader) {
  Status status = leader.result;  // why there is no lease
  Retry retry = make_retry();
  for (;;) {
    if (spools()) {
      MutexLock lock(mutex_);
      if (!latched_ && belongs_into_spool(range_of(leader.batch))) return std::nullopt;
    }
    if (lease) {
      status = attempt(*lease, leader);
      if (status.ok() || !replays()) return status;
      lease.reset();
    }
    const Next next = wait_to_retry(retry, status, Purpose::kChange);
    if (next == Next::kSpool) return std::nullopt;
    if (next == Next::kGiveUp) return latched_or(status);
    {
      // Whoever else has this range in doubt.
      MutexLock lock(mutex_);
      const Pieces pieces = pieces_of(leader.batch);
      while (const std::optional<TimePoint> doubt = in_doubt(pieces)) {
        if (latched_ || stopping_ || state_ == State::kSpooling) break;
        wait_for(changed_, *doubt);
      }
    }
    Result<pool::Lease> other = pool_.lease();
    if (other.ok())
      lease = std::move(other.value());
    else
      status = other.status();
  }
}

// Sends the batch if it may still be sent. Never throws: others wait for it.
Status Volume::attempt(pool::Lease& lease, const Change& leader) {
  const Pieces pieces = pieces_of(leader.batch);
  lease.replace_if_closed();
  {
    MutexLock lock(mutex_);
    if (latched_) return *latched_;
    if (in_doubt(pieces))
      return {Kind::kUnavailable, options_.name + ": an earlier change here failed, and the "
                                                  "server may still be applying it"};
  }
  try {
    return send(lease, pieces, leader.fua || always_stable(), false);
  } catch (const std::exception&) {
    // Whatever was sent or not.
    const Status status(Kind::kNoMemory, "out of memory");
    shun(pieces);
    judge(lease, Purpose::kStableChange, status);
    return status;
  }
}

// One request for all the pieces, which are adjacent. `again`: they have been
// acknowledged before.
Status Volume::send(pool::Lease& lease, const Pieces& pieces, bool stable, bool again) {
  const http::Request request = make_request(pieces, stable);
  const uint64_t bytes = range_of(pieces).length;
  const TimePoint start = clock_.now();
  Result<http::Reply> reply = lease.perform(request);
  note_long_attempt(start);
  Status status =
      reply.ok() ? options_.target->check_change(reply.value()) : reply.status();
  // Refused, also where that is an outage.
  const bool denied = status.kind() == Kind::kDenied;
  status = unless_forgotten(std::move(status));
  if (status.ok() && !stable) status = lease.retired();

  const auto op = again                   ? Stats::Op::kReplay
                  : request.parts.empty() ? Stats::Op::kZero
                                          : Stats::Op::kWrite;
  if (status.ok()) {
    stats_.add(op, bytes, pieces.size(), clock_.now() - start);
    note_answer(start);
    last_success_ = clock_.now();
    if (again)
      note_draining_works();
    else
      note_success();
    return status;
  }
  stats_.add_failure(op);
  if (!denied && fate_is_unknown(status)) shun(pieces);
  judge(lease, stable ? Purpose::kStableChange : Purpose::kChange, status);
  return status.while_doing(options_.name + ": could not " + request.what);
}

Volume::Pieces Volume::pieces_of(const std::vector<Change*>& batch) {
  Pieces pieces;
  pieces.reserve(batch.size());
  for (const Change* change : batch)
    pieces.push_back({change->range, change->data, change->sequence});
  return pieces;
}

ByteRange Volume::range_of(const std::vector<Change*>& batch) {
  const uint64_t offset = batch.front()->range.offset;
  return {offset, batch.back()->range.end() - offset};
}

ByteRange Volume::range_of(const Pieces& pieces) {
  const uint64_t offset = pieces.front().range.offset;
  return {offset, pieces.back().range.end() - offset};
}

http::Request Volume::make_request(const Pieces& pieces, bool stable) const {
  const ByteRange range = range_of(pieces);
  const bool all_zero = std::all_of(pieces.begin(), pieces.end(),
                                    [](const Piece& piece) { return piece.data == nullptr; });
  if (all_zero && capabilities().can_zero) return options_.target->zero(range, stable);
  std::vector<http::BodyPart> parts;
  parts.reserve(pieces.size());
  for (const Piece& piece : pieces) parts.push_back({piece.data, piece.range.length});
  return options_.target->write(range, std::move(parts), stable);
}

// Before the lease is given back, and before any client knows: a flush that
// begins later must find it (invariant 5).
void Volume::acknowledge(const std::vector<Change*>& batch, http::ConnectionId id,
                         std::vector<journal::RecordPtr> records) {
  // The newest content of a row's bytes is in the spool, see Volume::rows_.
  assert(!rows_.overlaps(range_of(batch)));
  if (batch.front()->fua || always_stable()) {
    log_.supersede(range_of(batch));
    wake_waiting();  // it may have been what a flush waits for
    return;
  }
  if (!replays()) {
    log_.add(id);
    return;
  }
  for (journal::RecordPtr& record : records) log_.add(std::move(record), id);
  for (Change* change : batch) change->memory = 0;  // it is the record's now
  wake_waiting();                                   // older content has made room
  if (log_.half_full() || state_ == State::kSpooling) wake_workers();
}

void Volume::finish(const std::vector<Change*>& changes, const Status& result) {
  queue_.finish(changes);
  for (Change* change : changes) {
    if (change->memory + change->room > 0) {
      log_memory_->unreserve(std::exchange(change->memory, 0));
      reserved_room_ -= std::exchange(change->room, 0);
      wake_waiting();
    }
    change->result = result;
    // Under the mutex: once it is free the change may cease to exist.
    change->woken.notify_one();
  }
  request_leases();  // for changes that these had blocked
}

}  // namespace upload::volume
