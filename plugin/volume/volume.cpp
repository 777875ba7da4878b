// SPDX-License-Identifier: BSD-3-Clause
//
// The data path, in the order in which a write runs through it:
//
//   write, zero    make a Change on the caller's stack
//   commit         queue it; wait until it has become part of a batch that
//                  was sent (follow), or leads one (lead)
//   assign         when a connection is free: the oldest ready change leads,
//                  and takes the run of adjacent changes around it
//   send           one request for the batch, and what its failure means
//   finish         wake the threads of the batch
//
// A write goes out at once when a connection is free; batches form only while
// all are busy. Each caller's thread holds its own buffer until its change is
// done, so nothing is copied on the way to libcurl.
//
// The order of steps around a reply is what keeps the invariants:
//   - a connection is entered into dirty_ before its lease is given back and
//     before the change is acknowledged, so no flush can miss it (5);
//   - a failed connection is given back, which latches the error of every
//     volume that was dirty on it, before the failure is returned (2, 6);
//   - a connection that died while it was idle is noticed before a change is
//     sent on its replacement, and then the change is not sent (2).
//   - the range of a change whose fate is unknown takes no further change: the
//     server may still be at it, and would overwrite what comes later (7).
// What each failure means is in docs/architecture.md, "Without and with
// replay". What is done about it with a replay log is in recovery.cpp.
//
// No lease is given back while mutex_ is held: it calls back into volumes.
// Out of memory in the book-keeping ends the process (noexcept): a change of
// a thread that has gone must not stay in the queue.

#include "volume/volume.h"

#include <algorithm>
#include <cassert>
#include <cinttypes>
#include <cstring>
#include <exception>
#include <utility>

#include "base/log.h"

namespace upload::volume {

namespace {

ByteRange range_of(const std::vector<Change*>& batch) {
  const uint64_t offset = batch.front()->range.offset;
  return {offset, batch.back()->range.end() - offset};
}

// Not under a mutex: standard error may block.
void warn_latched(const Status& status) {
  log::warning("every request fails from now on: %s", status.text().c_str());
}

}  // namespace

Volume::Volume(VolumeOptions options, pool::Pool& pool, Clock& clock, Stats& stats)
    : options_(std::move(options)),
      pool_(pool),
      clock_(clock),
      stats_(stats),
      log_memory_(std::make_shared<journal::Memory>(options_.replay)),
      queue_(options_.limits),
      log_(log_memory_) {
  pool_.add_client(*this);
  if (replays()) recovery_ = std::thread([this] { recover(); });
}

Volume::~Volume() {
  assert(!recovery_.joinable());
  pool_.remove_client(*this);
  MutexLock lock(mutex_);
  assert(queue_.empty() && requested_ == 0);
}

void Volume::request_stop() {
  MutexLock lock(mutex_);
  stopping_ = true;
  work_.notify_all();
  changed_.notify_all();
}

void Volume::join() {
  if (recovery_.joinable()) recovery_.join();
}

// --- Changes --------------------------------------------------------------

Status Volume::write(ByteRange range, const void* data, bool fua) {
  Change change;
  change.range = range;
  change.data = data;
  change.fua = fua;
  return commit(change);
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
  bool logged = replays() && !change.fua && !always_stable();
  uint64_t cost =
      logged ? journal::ReplayLog::cost(change.is_zero() ? 0 : change.range.length) : 0;
  if (cost > log_memory_->limit()) {
    // Too large for the log: it has to be stable when it is acknowledged.
    change.fua = true;
    logged = false;
    cost = 0;
  }
  {
    MutexLock lock(mutex_);
    if (Status status = admit(change, cost); !status.ok()) return status;
    extents_.reset();
    ++changes_;
    queue_.add(change);
    request_leases();
    wait_for_turn(change);
    if (change.state == Change::State::kDone) {
      if (!change.result.ok()) unreserve(cost);
      return change.result;
    }
  }
  // This thread leads: the batch is its own until finish().
  std::optional<pool::Lease> lease = std::exchange(change.lease, std::nullopt);
  const Status result = lead(lease, change);
  if (!result.ok()) lease.reset();  // latch before the failure is known
  std::vector<journal::RecordPtr> records;
  if (result.ok() && logged)
    for (const Change* each : change.batch)
      records.push_back(journal::ReplayLog::make_record(log_memory_, each->range, each->data));
  MutexLock lock(mutex_);
  if (result.ok())
    acknowledge(change.batch, lease->id(), std::move(records));
  else
    unreserve(cost);
  finish(change.batch, result);
  return result;
  // The mutex goes first, then the lease.
}

// Waits until the change may enter the queue, with room for it in the log.
Status Volume::admit(const Change& change, uint64_t cost) {
  for (;;) {
    if (latched_) return *latched_;
    if (stopping_) return {Kind::kShutdown, "the plugin is shutting down"};
    const Uncertain* const other = uncertain_about(change.range, 0);
    if (other != nullptr) {
      if (!replays())
        return {Kind::kLost, options_.name + ": an earlier change here failed, and the server "
                                             "may still be applying it; start again"};
      clock_.wait_until(changed_, mutex_, other->until);
    } else if (cost == 0 || log_memory_->reserve(cost)) {
      return {};
    } else {
      // The recovery thread makes room, or else latches.
      work_.notify_one();
      changed_.wait(mutex_);
    }
  }
}

void Volume::unreserve(uint64_t cost) {
  if (cost == 0) return;
  log_memory_->unreserve(cost);
  changed_.notify_all();
}

// Returns when the change is done or leads a batch.
void Volume::wait_for_turn(Change& change) {
  const TimePoint start = clock_.now();
  while (change.state != Change::State::kDone && !change.leads) {
    TimePoint give_up = pool_.give_up_at(start);
    // Those in front may be trying again.
    if (replays()) give_up = std::max(give_up, start + options_.retry_time + options_.late);
    if (change.state == Change::State::kTaken) {
      // In a batch that is being sent, which has an end.
      change.woken.wait(mutex_);
    } else if (clock_.now() >= give_up) {
      finish({&change}, pool_.wait_failure());
    } else {
      clock_.wait_until(change.woken, mutex_, give_up);
    }
  }
}

// Puts waits into the pool's line, one for each ready change but not more
// than can lead at a time.
void Volume::request_leases() {
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

// Gets the batch to the server; with a replay log, tries until it is given up.
Status Volume::lead(std::optional<pool::Lease>& lease, const Change& leader) {
  const ByteRange range = range_of(leader.batch);
  Status status = leader.result;  // why there is no lease
  Retry retry(clock_, options_.retry_time);
  for (;;) {
    if (lease) {
      status = attempt(*lease, leader);
      if (status.ok() || !replays()) return status;
      lease.reset();
    }
    if (!wait_to_retry(retry, status, true)) {
      const Status error = latched();
      return error.ok() ? status : error;
    }
    {
      // Whoever else has this range in doubt.
      MutexLock lock(mutex_);
      while (const Uncertain* other = uncertain_about(range, leader.sequence)) {
        if (latched_ || stopping_) break;
        clock_.wait_until(changed_, mutex_, other->until);
      }
    }
    Result<pool::Lease> next = pool_.lease();
    if (next.ok())
      lease = std::move(next.value());
    else
      status = next.status();
  }
}

// Sends the batch if it may still be sent. Never throws: others wait for it.
Status Volume::attempt(pool::Lease& lease, const Change& leader) {
  const ByteRange range = range_of(leader.batch);
  lease.replace_if_closed();
  {
    MutexLock lock(mutex_);
    if (latched_) return *latched_;
    if (uncertain_about(range, leader.sequence) != nullptr)
      return {Kind::kUnavailable, options_.name + ": an earlier change here failed, and the "
                                                  "server may still be applying it"};
  }
  try {
    return send(lease, leader);
  } catch (const std::exception&) {
    // Whatever was sent or not.
    const Status status(Kind::kNoMemory, "out of memory");
    shun(range, leader.sequence);
    judge(lease, Purpose::kStableChange, status);
    return status;
  }
}

// One request for the whole batch.
Status Volume::send(pool::Lease& lease, const Change& leader) {
  const std::vector<Change*>& batch = leader.batch;
  const bool stable = batch.front()->fua || always_stable();
  const http::Request request = make_request(batch, stable);
  const ByteRange range = range_of(batch);
  const TimePoint start = clock_.now();
  Result<http::Reply> reply = lease.perform(request);
  Status status =
      reply.ok() ? options_.target->check_change(reply.value()) : reply.status();
  if (status.ok() && !stable) status = lease.retired();

  const auto op = request.parts.empty() ? Stats::Op::kZero : Stats::Op::kWrite;
  if (status.ok()) {
    stats_.add(op, range.length, batch.size(), clock_.now() - start);
    note_success();
    return status;
  }
  stats_.add_failure(op);
  if (fate_is_unknown(status)) shun(range, leader.sequence);
  judge(lease, stable ? Purpose::kStableChange : Purpose::kChange, status);
  return status.while_doing(options_.name + ": could not " + request.what);
}

http::Request Volume::make_request(const std::vector<Change*>& batch, bool stable) const {
  const ByteRange range = range_of(batch);
  const bool all_zero = std::all_of(batch.begin(), batch.end(),
                                    [](const Change* change) { return change->is_zero(); });
  if (all_zero && capabilities().can_zero) return options_.target->zero(range, stable);
  std::vector<http::BodyPart> parts;
  parts.reserve(batch.size());
  for (const Change* change : batch)
    parts.push_back({change->data, change->range.length});
  return options_.target->write(range, std::move(parts), stable);
}

// Before the lease is given back, and before any client knows: a flush that
// begins later must find it (invariant 5).
void Volume::acknowledge(const std::vector<Change*>& batch, http::ConnectionId id,
                         std::vector<journal::RecordPtr> records) {
  if (batch.front()->fua || always_stable()) {
    log_.supersede(range_of(batch));
    return;
  }
  dirty_.insert(id);
  if (!replays()) return;
  for (journal::RecordPtr& record : records) log_.add(std::move(record), id);
  changed_.notify_all();  // older content has made room
  if (log_.half_full()) work_.notify_one();
}

void Volume::finish(const std::vector<Change*>& changes, const Status& result) {
  queue_.finish(changes);
  for (Change* change : changes) {
    change->result = result;
    // Under the mutex: once it is free the change may cease to exist.
    change->woken.notify_one();
  }
  request_leases();  // for changes that these had blocked
}

// --- Reads ----------------------------------------------------------------

Status Volume::read(ByteRange range, void* data) {
  assert(range.length > 0 && range.end() <= size());
  // What is acknowledged and not stable is read from the log: the server may
  // have lost it without anybody having noticed yet.
  std::vector<journal::Slice> unstable;
  {
    MutexLock lock(mutex_);
    if (latched_) return *latched_;
    unstable = log_.slices(range, false);
  }
  uint64_t covered = 0;
  for (const journal::Slice& slice : unstable) covered += slice.range.length;
  Retry retry(clock_, options_.retry_time);
  while (covered < range.length) {
    const Status status = read_from_server(range, data);
    if (status.ok()) break;
    if (!replays() || !wait_to_retry(retry, status, false)) return status;
  }
  for (const journal::Slice& slice : unstable) {
    std::byte* const to = static_cast<std::byte*>(data) + (slice.range.offset - range.offset);
    if (const std::byte* const from = slice.record->at(slice.range.offset))
      memcpy(to, from, slice.range.length);
    else
      memset(to, 0, slice.range.length);
  }
  if (!unstable.empty()) {
    unstable.clear();
    MutexLock lock(mutex_);
    changed_.notify_all();  // it may have been the last to hold a record
  }
  return {};
}

Status Volume::read_from_server(ByteRange range, void* data) {
  Result<pool::Lease> lease = pool_.lease();
  if (!lease.ok()) return lease.status().while_doing(options_.name + ": could not read");
  lease.value().replace_if_closed();
  if (Status status = latched(); !status.ok()) return status;

  const http::Request request = options_.target->read(range, data);
  const TimePoint start = clock_.now();
  const Result<http::Reply> reply = lease.value().perform(request);
  const Status status =
      reply.ok() ? options_.target->check_read(reply.value(), range) : reply.status();
  if (status.ok()) {
    stats_.add(Stats::Op::kRead, range.length, 1, clock_.now() - start);
    note_success();
    return status;
  }
  stats_.add_failure(Stats::Op::kRead);
  judge(lease.value(), Purpose::kRead, status);
  return status.while_doing(options_.name + ": could not " + request.what);
}

Result<Extents> Volume::extents() {
  uint64_t changes_before = 0;
  bool quiet = false;
  {
    MutexLock lock(mutex_);
    if (latched_) return *latched_;
    if (extents_) return extents_;
    changes_before = changes_;
    quiet = queue_.empty();
    // The server may have lost what is in the log: say that all is data.
    if (!log_.empty())
      return Extents(std::make_shared<const std::vector<target::Extent>>(
          1, target::Extent{{0, size()}, false, false}));
  }
  Result<pool::Lease> lease = pool_.lease();
  if (!lease.ok()) return lease.status().while_doing(options_.name + ": extents");
  lease.value().replace_if_closed();
  if (Status status = latched(); !status.ok()) return status;

  const http::Request request = options_.target->extents();
  const TimePoint start = clock_.now();
  const Result<http::Reply> reply = lease.value().perform(request);
  Result<std::vector<target::Extent>> list =
      reply.ok() ? options_.target->read_extents(reply.value())
                 : Result<std::vector<target::Extent>>(reply.status());
  if (list.ok() && (list.value().empty() || list.value().back().range.end() < size()))
    list = Status(Kind::kMalformed, "the extents end before the disk does");
  if (!list.ok()) {
    stats_.add_failure(Stats::Op::kExtents);
    judge(lease.value(), Purpose::kRead, list.status());
    return list.status().while_doing(options_.name + ": could not get the extents");
  }
  stats_.add(Stats::Op::kExtents, 0, 1, clock_.now() - start);
  auto extents =
      std::make_shared<const std::vector<target::Extent>>(std::move(list.value()));
  MutexLock lock(mutex_);
  // No change was under way while the server looked.
  if (quiet && changes_ == changes_before) extents_ = extents;
  return Extents(extents);
}

// --- Flush ----------------------------------------------------------------

Status Volume::flush() {
  if (replays() && !always_stable()) return flush_until_stable();
  std::vector<http::ConnectionId> dirty;
  {
    MutexLock lock(mutex_);
    if (latched_) return *latched_;
    dirty.assign(dirty_.begin(), dirty_.end());
  }
  for (const http::ConnectionId id : dirty)
    if (Status status = flush_connection(id); !status.ok()) return status;
  // One of them may have been lost under somebody else's request.
  return latched();
}

Status Volume::flush_connection(http::ConnectionId id) {
  Result<pool::Lease> lease = pool_.lease(id);
  {
    MutexLock lock(mutex_);
    if (latched_) return *latched_;
    // Another flush covered it; after that it may even have been closed.
    if (!dirty_.contains(id)) return {};
  }
  if (!lease.ok()) return lease.status().while_doing(options_.name + ": could not flush");
  return flush_lease(lease.value(), Purpose::kFlush);
}

Status Volume::flush_lease(pool::Lease& lease, Purpose purpose) noexcept {
  const bool keeping = purpose == Purpose::kKeepAlive;
  const http::Request request =
      always_stable() ? options_.target->options() : options_.target->flush();
  const TimePoint start = clock_.now();
  const Result<http::Reply> reply = lease.perform(request);
  Status status;
  if (!reply.ok())
    status = reply.status();
  else if (always_stable())
    status = options_.target->read_options(reply.value()).status();
  else
    status = options_.target->check_change(reply.value());

  const auto op = keeping ? Stats::Op::kKeepAlive : Stats::Op::kFlush;
  if (status.ok()) {
    stats_.add(op, 0, 1, clock_.now() - start);
    note_success();
    MutexLock lock(mutex_);
    dirty_.erase(lease.id());
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

// --- Failures -------------------------------------------------------------

// What a failed request means beyond itself.
void Volume::judge(pool::Lease& lease, Purpose purpose,
                   const Status& failure) noexcept {
  const bool flushes = purpose == Purpose::kFlush || purpose == Purpose::kKeepAlive;
  switch (failure.kind()) {
    case Kind::kLost:
    case Kind::kMalformed:
    case Kind::kGateway:  // what the proxy had behind this connection is gone
      lease.retire(failure);
      break;
    case Kind::kServerError:
      // The server's storage client may be dead.
      lease.retire(failure);
      if (purpose != Purpose::kRead && !replays()) latch(failure);
      break;
    case Kind::kDenied:
      latch(failure);
      break;
    default: break;
  }
  // What a flush that failed covered may be gone (invariant 4), whatever the
  // status says; a change that was to be stable ends in a flush.
  if (flushes || purpose == Purpose::kStableChange) lease.retire(failure);
  if (flushes && !replays()) latch(failure);
}

void Volume::connection_lost(http::ConnectionId id, const Status& why) {
  const Status status =
      why.while_doing(options_.name + ": a connection with unflushed changes was lost");
  {
    // One step: a flush in between would find nothing dirty and no error.
    MutexLock lock(mutex_);
    if (dirty_.erase(id) == 0 || latched_) return;
    if (replays()) {
      if (!log_.lost(id)) return;
      work_.notify_one();
    } else {
      set_latched(status);
    }
  }
  if (replays())
    note_outage(status);
  else
    warn_latched(status);
}

void Volume::latch(const Status& why) {
  // A text of its own: it is repeated long after the request it comes from.
  const bool named = why.text().compare(0, options_.name.size(), options_.name) == 0;
  const Status status = named ? why : why.while_doing(options_.name);
  {
    MutexLock lock(mutex_);
    if (latched_) return;
    set_latched(status);
  }
  warn_latched(status);
}

// Whoever waits for anything learns it.
void Volume::set_latched(const Status& status) {
  latched_ = status;
  finish(queue_.waiting(), status);
  changed_.notify_all();
  work_.notify_all();
}

// A change of that range has failed, and the server may be applying it yet.
// Without a replay log no further change goes there. With one, its owner
// repeats it, which changes nothing; others wait as long as the server might
// take.
void Volume::shun(ByteRange range, uint64_t owner) {
  constexpr size_t kMost = 1000;
  bool too_many = false;
  {
    MutexLock lock(mutex_);
    const TimePoint until =
        replays() ? clock_.now() + options_.late : TimePoint::max();
    (void)uncertain_about({0, size()}, owner);  // forgets what is over
    uncertain_.push_back({range, owner, until});
    too_many = !replays() && uncertain_.size() > kMost;
  }
  if (too_many) latch({Kind::kLost, "too many changes have failed"});
}

// Somebody else's uncertainty about the range; null: none.
const Volume::Uncertain* Volume::uncertain_about(ByteRange range, uint64_t owner) {
  if (uncertain_.empty()) return nullptr;
  const TimePoint now = clock_.now();
  std::erase_if(uncertain_, [&](const Uncertain& u) { return u.until <= now; });
  const auto found =
      std::find_if(uncertain_.begin(), uncertain_.end(), [&](const Uncertain& u) {
        return u.owner != owner && u.range.overlaps(range);
      });
  return found == uncertain_.end() ? nullptr : &*found;
}

Status Volume::latched() const {
  MutexLock lock(mutex_);
  return latched_.value_or(Status());
}

}  // namespace upload::volume
