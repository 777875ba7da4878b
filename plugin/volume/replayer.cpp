// SPDX-License-Identifier: BSD-3-Clause
//
// Which orphans a job takes, and what it does with them.

#include "volume/replayer.h"

#include <list>
#include <optional>
#include <utility>

namespace upload::volume {

namespace {

// What one job holds the ranges of, about, in bytes.
constexpr uint64_t kMostHeld = uint64_t{16} << 20;
// Orphaned segments that are worth another thread.
constexpr size_t kWorthAThread = 16;

}  // namespace

Job Replayer::next_job(TimePoint&) {
  core_.mutex.assert_held();
  // While spooling the log moves to the spool.
  if (core_.health.latched() || core_.spool_state == SpoolState::kSpooling) return nullptr;
  if (Job job = replay_job()) return job;
  return make_room_job();
}

Job Replayer::replay_job() {
  const journal::ReplayLog& log = core_.unflushed.log;
  if (replaying_ == 0) claim_from_ = 0;
  if (replaying_ > 0 && replaying_ >= log.orphans_in_memory() / kWorthAThread) return nullptr;
  std::vector<ByteRange> ranges = claim_orphans();
  if (ranges.empty()) return nullptr;
  ++replaying_;
  return [this, ranges = std::move(ranges)] {
    (void)replay(ranges).ok();  // what failed is orphaned as before, or an error has latched
    MutexLock lock(core_.mutex);
    --replaying_;
  };
}

Job Replayer::make_room_job() {
  if (!core_.is_room_due()) return nullptr;
  core_.making_room = true;
  core_.room_wanted = false;
  return [this] {
    flusher_.make_room();
    MutexLock lock(core_.mutex);
    core_.making_room = false;
  };
}

// The next orphans in memory that nobody else is about to send.
std::vector<ByteRange> Replayer::claim_orphans() {
  std::vector<ByteRange> ranges;
  uint64_t total = 0;
  while (ranges.size() < resender_.most_requests() && total < kMostHeld) {
    const auto range =
        core_.unflushed.log.first_orphans(core_.options.limits.max_request, claim_from_);
    if (!range) break;
    ranges.push_back(*range);
    claim_from_ = range->end();
    total += range->length;
  }
  return ranges;
}

Status Replayer::replay_first() {
  std::vector<ByteRange> ranges;
  {
    MutexLock lock(core_.mutex);
    claim_from_ = 0;
    ranges = claim_orphans();
  }
  return replay(ranges);
}

Status Replayer::replay(const std::vector<ByteRange>& ranges) {
  if (ranges.empty()) return {};
  HeldRanges held;
  std::vector<journal::Slice> slices;
  {
    MutexLock lock(core_.mutex);
    if (core_.health.latched()) return {};
    for (const ByteRange range : ranges) held.emplace_back().range = range;
    if (!core_.hold(held)) return core_.health.latched().value_or(Status());
    for (const Change& change : held)
      for (journal::Slice& slice : core_.unflushed.log.orphans(change.range))
        slices.push_back(std::move(slice));
  }
  const Status status = send_all(split(pieces_of(slices), core_.options.limits));
  slices.clear();  // with them records may go: there is room in the log
  MutexLock lock(core_.mutex);
  core_.let_go(held);
  return status;
}

// Until all are stable on the server, or it is given up.
Status Replayer::send_all(std::span<const Pieces> requests) {
  std::optional<Retry> retry;
  while (!requests.empty()) {
    const Result<size_t> sent = resender_.send_some(requests);
    if (sent.ok()) {
      retry.reset();
      core_.note_success();
      requests = requests.subspan(sent.value());
      continue;
    }
    if (!retry) retry.emplace(mode_.make_retry(Purpose::kResend));
    if (!retry->worthwhile(sent.status())) {
      core_.latch(sent.status().while_doing("acknowledged data could not be sent again"));
      return sent.status();
    }
    if (mode_.after_failure(*retry, sent.status()) != Mode::Next::kTryAgain)
      return mode_.given_up(sent.status());
  }
  return {};
}

}  // namespace upload::volume
