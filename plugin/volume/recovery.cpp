// SPDX-License-Identifier: BSD-3-Clause
//
// What a volume with a replay log does about lost connections.
//
// A request that fails is repeated by its own thread (Volume::lead, read).
// What was acknowledged over a connection that is lost becomes orphaned in
// the log; the recovery thread sends it again over another connection, in
// this way:
//   - it takes the range of some orphans in the queue, like a change: later
//     changes that overlap it wait, earlier ones it waits for;
//   - then it looks again at what is still orphaned there, since an earlier
//     change may have been newer, and sends that, to be stable at once: what
//     was achieved is kept, however often connections are lost.
// So for each byte the newest content is what the server gets last
// (invariant 7), and a flush returns when nothing up to its beginning is left
// in the log (invariant 5).
//
// The recovery thread also flushes when the log is half full, so that writers
// wait only when it is full.
//
// Everything ends: each repetition gives up after the retry time, and latches.

#include <algorithm>
#include <cassert>
#include <cinttypes>

#include "base/log.h"
#include "volume/volume.h"

namespace upload::volume {

namespace {

long long seconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
}

}  // namespace

// --- Trying again ---------------------------------------------------------

// Waits until it is time to try again. False: give up; if `latches`, because
// the time is over, the error latches.
bool Volume::wait_to_retry(Retry& retry, const Status& failure, bool latches) {
  const std::optional<TimePoint> when = retry.next(failure);
  if (!when) {
    if (latches && Retry::worthwhile(failure)) {
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
    return false;
  }
  note_outage(failure);
  MutexLock lock(mutex_);
  while (!latched_ && !stopping_ && clock_.now() < *when)
    clock_.wait_until(changed_, mutex_, *when);
  return !latched_ && !stopping_;
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
    if (!outage_since_ || log_.has_orphans()) return;
    outage = clock_.now() - *outage_since_;
    outage_since_.reset();
    outage_ = false;
  }
  log::warning("%s: recovered after %.1f seconds, nothing is lost", options_.name.c_str(),
               std::chrono::duration<double>(outage).count());
}

// --- Flush ----------------------------------------------------------------

Status Volume::flush_until_stable() {
  uint64_t last = 0;
  {
    MutexLock lock(mutex_);
    last = log_.last_sequence();
  }
  Retry retry(clock_, options_.retry_time);
  for (;;) {
    std::vector<http::ConnectionId> connections;
    {
      MutexLock lock(mutex_);
      for (;;) {
        if (latched_) return *latched_;
        if (stopping_) return {Kind::kShutdown, "the plugin is shutting down"};
        connections = log_.unstable(last);
        if (connections.empty()) return {};
        if (connections.front() != journal::ReplayLog::kNone) break;
        changed_.wait(mutex_);  // the recovery thread sends orphans, or latches
      }
    }
    for (const http::ConnectionId id : connections) {
      const Status status = flush_connection(id);
      if (status.ok()) continue;
      if (!wait_to_retry(retry, status, true)) {
        const Status error = latched();
        return error.ok() ? status : error;
      }
      break;  // what it covered is on its way to another one
    }
  }
}

// --- The recovery thread --------------------------------------------------

void Volume::recover() {
  while (wait_for_work()) {
    std::optional<ByteRange> orphans;
    std::vector<http::ConnectionId> connections;
    {
      MutexLock lock(mutex_);
      orphans = log_.first_orphans(options_.limits.max_request);
      if (!orphans) connections = log_.unstable(log_.last_sequence());
    }
    if (orphans) {
      replay(*orphans);
    } else {
      // What fails here is orphaned, and comes back above.
      for (const http::ConnectionId id : connections) (void)flush_connection(id).ok();
    }
  }
}

// False: the end.
bool Volume::wait_for_work() {
  MutexLock lock(mutex_);
  for (;;) {
    if (stopping_) return false;
    if (!latched_ && (log_.has_orphans() || (log_.half_full() && !log_.empty()))) return true;
    work_.wait(mutex_);
  }
}

// Sends the orphans of that range again.
void Volume::replay(ByteRange range) {
  Change hold;
  hold.range = range;
  hold.exclusive = true;
  std::vector<journal::Slice> slices;
  {
    MutexLock lock(mutex_);
    if (latched_) return;
    queue_.add(hold);
    while (hold.state == Change::State::kBlocked) hold.woken.wait(mutex_);
    if (hold.state == Change::State::kDone) return;  // latched meanwhile
    slices = log_.slices(range, true);
  }
  UPLOAD_DEBUG(journal, "journal: %zu stretches in %" PRIu64 " bytes at offset %" PRIu64
               " are sent again", slices.size(), range.length, range.offset);
  const Status status = send_again(slices, hold.sequence);
  slices.clear();  // with them records may go: there is room in the log
  MutexLock lock(mutex_);
  finish({&hold}, status);
  changed_.notify_all();
}

// Adjacent slices of a kind go together.
Status Volume::send_again(const std::vector<journal::Slice>& slices, uint64_t owner) {
  const auto is_zero = [&](const journal::Slice& slice) {
    return slice.record->data == nullptr && capabilities().can_zero;
  };
  for (size_t i = 0; i < slices.size();) {
    std::vector<journal::Slice> run;
    do {
      run.push_back(slices[i++]);
    } while (i < slices.size() && slices[i].range.offset == run.back().range.end() &&
             is_zero(slices[i]) == is_zero(run.back()));
    Retry retry(clock_, options_.retry_time);
    for (;;) {
      const Status status = send_once(run, owner);
      if (status.ok()) break;
      if (!Retry::worthwhile(status)) {
        latch(status.while_doing("acknowledged data could not be sent again"));
        return status;
      }
      if (!wait_to_retry(retry, status, true)) return status;
    }
  }
  return {};
}

Status Volume::send_once(const std::vector<journal::Slice>& slices, uint64_t owner) {
  Result<pool::Lease> lease = pool_.lease();
  if (!lease.ok()) return lease.status();
  lease.value().replace_if_closed();
  if (Status status = latched(); !status.ok()) return status;

  const uint64_t offset = slices.front().range.offset;
  const ByteRange range{offset, slices.back().range.end() - offset};
  http::Request request;
  if (slices.front().record->data == nullptr && capabilities().can_zero) {
    request = options_.target->zero(range, true);
  } else {
    std::vector<http::BodyPart> parts;
    for (const journal::Slice& slice : slices)
      parts.push_back({slice.record->at(slice.range.offset), slice.range.length});
    request = options_.target->write(range, std::move(parts), true);
  }
  const TimePoint start = clock_.now();
  const Result<http::Reply> reply = lease.value().perform(request);
  const Status status =
      reply.ok() ? options_.target->check_change(reply.value()) : reply.status();
  if (!status.ok()) {
    stats_.add_failure(Stats::Op::kReplay);
    if (fate_is_unknown(status)) shun(range, owner);
    judge(lease.value(), Purpose::kStableChange, status);
    return status.while_doing(options_.name + ": could not " + request.what);
  }
  stats_.add(Stats::Op::kReplay, range.length, slices.size(), clock_.now() - start);
  {
    // Nobody could change them meanwhile: their range is taken.
    MutexLock lock(mutex_);
    log_.supersede(range);
  }
  note_success();
  return {};
}

}  // namespace upload::volume
