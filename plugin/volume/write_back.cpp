// SPDX-License-Identifier: BSD-3-Clause
//
// Into the log, and out of it.

#include "volume/write_back.h"

#include <algorithm>
#include <cassert>
#include <cinttypes>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/process_stop.h"

namespace upload::volume {

// All that is under way is at most half of the log: the other half fills meanwhile.
WriteBack::WriteBack(Core& core, Mode& mode, Delivery& delivery)
    : core_(core),
      mode_(mode),
      delivery_(delivery),
      size_(core.options.limits.max_request,
            std::min(core.options.capabilities.traits.max_write,
                     core.options.replay / 2 / core.share.limit())) {}

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
  HeldRanges held;
  Request request;
  {
    MutexLock lock(core_.mutex);
    --choosing_;
    request = next_request(connection.ok());
    if (request.pieces.empty()) {
      --core_.sending_jobs;
      return;
    }
    held.emplace_back().range = range_of(request.pieces);
    under_way_ += held.front().range.length;
    const bool is_held = core_.hold(held);
    assert(is_held);
    (void)is_held;
  }
  if (deliver(request, std::move(connection)) == Next::kSmaller) send_smaller(request);
  request.slices.clear();  // with them records may go: there is room in the log
  MutexLock lock(core_.mutex);
  under_way_ -= request.left;
  --core_.sending_jobs;
  core_.let_go(held);
}

// The range stays held: newer content there would wait until no copy of the failed request can come
// late, which only the answer to another request tells, and there may be nothing else to be asked for.
void WriteBack::send_smaller(Request& request) {
  for (Pieces& pieces : split(request.pieces, core_.options.limits)) {
    {
      MutexLock lock(core_.mutex);
      if (core_.health.over() || core_.belongs_into_spool(range_of(pieces))) return;
    }
    Request part;
    part.pieces = std::move(pieces);
    part.left = range_of(part.pieces).length;
    part.stable = core_.options.stable_on_reply();
    if (deliver(part, core_.lease()) != Next::kDone) return;
    request.left -= range_of(part.pieces).length;
  }
}

WriteBack::Next WriteBack::deliver(Request& request, Result<upstream::Lease> connection) {
  std::optional<upstream::Lease> lease;
  if (connection.ok()) lease = std::move(connection.value());
  const Purpose purpose = request.stable ? Purpose::kStableChange : Purpose::kChange;
  const TimePoint start = core_.clock.now();
  const Delivery::Outcome outcome =
      request.large ? delivery_.attempt(*lease, request.pieces, purpose)
                    : delivery_.deliver(lease, connection.status(), request.pieces, purpose,
                                        Purpose::kResend);
  if (outcome.to_fallback) return Next::kElsewhere;
  const uint64_t bytes = range_of(request.pieces).length;
  if (!outcome.status.ok() && !request.large) {
    core_.latch(outcome.status.while_doing("acknowledged data could not be sent"));
    return Next::kElsewhere;
  }
  if (!outcome.status.ok()) {
    UPLOAD_DEBUG(queue, "a request of %" PRIu64 " bytes has failed, they go in smaller ones: %s",
                 bytes, outcome.status.text().c_str());
    MutexLock lock(core_.mutex);
    size_.failed(bytes);
    return Next::kSmaller;
    // The mutex goes first, then the lease, and what it has carried is orphaned.
  }
  request.slices.clear();  // before whoever waits for room looks for it
  MutexLock lock(core_.mutex);
  if (has_data(request.pieces)) size_.succeeded(bytes, core_.clock.now() - start);
  sent(request, *lease);
  return Next::kDone;
  // The mutex goes first, then the lease.
}

bool WriteBack::has_data(const Pieces& pieces) const {
  return core_.options.limits.zero_is_data ||
         std::any_of(pieces.begin(), pieces.end(),
                     [](const Piece& piece) { return piece.data != nullptr; });
}

// `connected`: there is a connection for it. What has to wait for late copies is not just tried.
WriteBack::Request WriteBack::next_request(bool connected) {
  const uint64_t least = size_.least();
  const uint64_t most = connected ? size_.now() : least;
  Request request = request_of(next_run(most), most);
  if (request.large && core_.in_doubt(request.pieces))
    request = request_of(std::move(request.slices), least);
  if (!request.pieces.empty()) next_ = range_of(request.pieces).end();
  return request;
}

// The first of what is to be sent, up to so many bytes of data.
WriteBack::Request WriteBack::request_of(std::vector<journal::Slice> slices, uint64_t most) {
  Request request;
  if (slices.empty()) return request;
  BatchLimits limits = core_.options.limits;
  limits.max_request = most;
  request.pieces = std::move(split(pieces_of(slices), limits).front());
  request.slices = std::move(slices);
  request.left = range_of(request.pieces).length;
  request.large = most > size_.least() && has_data(request.pieces) &&
                  range_of(request.pieces).length > size_.least();
  request.stable = core_.options.stable_on_reply() ||
                   (request.large && core_.unflushed.log.half_full()) ||
                   (size_.is_delayed() && core_.somebody_waits_for_sending());
  return request;
}

// From what was taken last on, and then from the beginning: the longest of some runs, up to so many
// bytes of data. When somebody waits for all to be sent, each in its turn.
std::vector<journal::Slice> WriteBack::next_run(uint64_t most) {
  constexpr int kLooks = 16;
  std::vector<journal::Slice> longest;
  uint64_t from = next_;
  bool at_beginning = false;
  for (int looks = 0; looks < kLooks; ++looks) {
    std::vector<journal::Slice> run =
        first_free_run(from, at_beginning ? next_ : core_.options.size, most);
    if (run.empty()) {
      if (std::exchange(at_beginning, true)) break;
      from = 0;
      continue;
    }
    from = run.back().range.end();
    if (longest.empty() || weight_of(run) > weight_of(longest)) longest = std::move(run);
    if (weight_of(longest) >= most || core_.somebody_waits_for_sending()) break;
  }
  // Whoever ends looks again.
  if (longest.empty()) core_.senders_stuck = core_.unflushed.log.has_unsent();
  return longest;
}

// In bytes. Zeroes take no memory, and no time on the way: a run of them does not keep data waiting.
uint64_t WriteBack::weight_of(const std::vector<journal::Slice>& run) const {
  const uint64_t length = run.back().range.end() - run.front().range.offset;
  const bool zeroes = std::all_of(run.begin(), run.end(),
                                  [](const journal::Slice& slice) { return slice.record->zero; });
  return zeroes ? std::min(length, size_.least()) : length;
}

// The first unsent bytes between that nobody has in the queue, as far as they may go together.
std::vector<journal::Slice> WriteBack::first_free_run(uint64_t from, uint64_t end,
                                                      uint64_t most) {
  while (from < end) {
    const ByteRange gap = core_.queue.free_from(from);
    if (gap.offset >= end) break;
    std::vector<journal::Slice> run = core_.unflushed.log.first_unsent(
        gap, {.data = most, .zeroes = core_.options.limits.max_zero});
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

// Before the connection is given back, and before its range is: a flush that begins then must
// find it (invariant 5).
void WriteBack::sent(Request& request, const upstream::Lease& lease) {
  journal::ReplayLog& log = core_.unflushed.log;
  const ByteRange range = range_of(request.pieces);
  under_way_ -= std::exchange(request.left, 0);
  if (request.stable)
    log.supersede(range);
  else
    log.sent(range, lease.id());
  core_.wake_waiting();
  core_.wake_if_room_is_due();
}

}  // namespace upload::volume
