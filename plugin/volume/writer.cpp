// SPDX-License-Identifier: BSD-3-Clause
//
// The steps of a change in their order; see the head of writer.h.

#include "volume/writer.h"

#include <algorithm>
#include <cassert>
#include <deque>
#include <exception>
#include <new>
#include <utility>

#include "base/process_stop.h"

namespace upload::volume {

// In pieces that fit into the replay log and, with the rest of their blocks, into a request.
Status Writer::write(ByteRange range, const void* data, bool fua) {
  const uint64_t most = core_.options.largest_write();
  const auto* bytes = static_cast<const std::byte*>(data);
  while (range.length > 0) {
    Change change;
    change.range = {range.offset, std::min(range.length, most - bytes_into_block(range))};
    change.data = bytes;
    if (Status status = commit(change, fua); !status.ok()) return status;
    bytes += change.range.length;
    range = {change.range.end(), range.length - change.range.length};
  }
  return {};
}

// In pieces that a server can write out within the time-out if it has to. A part of a block goes
// by itself, as it is written.
Status Writer::zero(ByteRange range, bool fua) {
  const uint64_t block = core_.options.limits.block;
  while (range.length > 0) {
    Change change;
    const uint64_t into = bytes_into_block(range);
    uint64_t length = std::min(range.length, core_.options.limits.max_zero);
    if (into > 0)
      length = std::min(length, block - into);
    else if (length > block)
      length -= length % block;
    change.range = {range.offset, length};
    if (Status status = commit(change, fua); !status.ok()) return status;
    range = {change.range.end(), range.length - change.range.length};
  }
  return {};
}

// How far behind the beginning of a block it begins.
uint64_t Writer::bytes_into_block(ByteRange range) const {
  return range.offset % core_.options.limits.block;
}

Status Writer::commit(Change& change, bool fua) noexcept {
  // Nothing beyond the end ever reaches the server.
  assert(change.range.length > 0 && change.range.end() <= core_.options.size);
  bool write_back = write_back_ != nullptr && !fua;
  change.stable = !write_back && (fua || core_.options.stable_on_reply());
  {
    MutexLock lock(core_.mutex);
    if (Status status = admit(change, write_back); !status.ok()) return status;
    // It is asked again before the change is sent, when it has its range to itself. Here it
    // saves the wait for a connection.
    change.to_spool = change.to_spool || core_.belongs_into_spool(change.range);
    write_back = write_back && !change.to_spool;
    if (!write_back) core_.enqueue(change);
  }
  if (write_back && write_back_->accept(change)) return change.result;
  for (;;) {
    {
      MutexLock lock(core_.mutex);
      core_.find_leaders();
      wait_for_turn(change);
      if (change.state == Change::State::kDone) break;
    }
    // This thread leads: the batch is its own until it is finished.
    if (change.to_spool) {
      fallback_.append_and_finish(change);
    } else if (!send_batch(change)) {
      MutexLock lock(core_.mutex);
      change.leads = false;
      core_.queue.put_back(change.batch);
    }
  }
  // What is in the spool is not on the server.
  if (change.result.ok() && change.to_spool && fua && !core_.options.spool_local)
    return flusher_.flush();
  return change.result;
}

// Waits until the change may enter the queue, with room for it in the log.
Status Writer::admit(Change& change, bool write_back) {
  const Status status = wait_for_room(change, write_back);
  leave_line(change);
  return status;
}

// The next in line may find room.
void Writer::leave_line(Change& change) {
  if (std::erase(core_.waiting_for_room, &change) > 0) core_.wake_waiting();
}

// What is sent later waits for late copies later.
Status Writer::wait_for_room(Change& change, bool write_back) {
  std::deque<Change*>& line = core_.waiting_for_room;
  const TimePoint start = core_.clock.now();
  LastLook last_look;
  for (;;) {
    if (core_.health.latched()) return *core_.health.latched();
    if (core_.health.stopping()) return {Kind::kShutdown, "the plugin is shutting down"};
    const bool spooling = core_.spool_state == SpoolState::kSpooling;
    if (!spooling && !write_back) {
      if (const auto doubt = core_.late_copies.until(change.range, 0, core_.clock.now())) {
        if (Status status = mode_.may_wait_in_doubt(); !status.ok()) return status;
        const TimePoint give_up = mode_.give_up_waiting_at(core_.waiting_since(start));
        if (core_.clock.now() >= give_up) return delivery_.unknown_fate();
        leave_line(change);
        core_.wait_for(core_.state_changed, std::min(*doubt, give_up));
        continue;
      }
    }
    // Who takes no room keeps it from nobody in the line.
    const bool is_next =
        line.empty() || line.front() == &change || !core_.budget.takes_room(change, spooling);
    if (is_next && core_.budget.reserve(change, spooling, core_.unflushed.rows().used()))
      return {};
    const TimePoint give_up = core_.give_up_on_spool_at(start);
    const auto until = last_look.wait_until(give_up, core_.clock.now());
    if (!until) return core_.waited_for_spool("write");
    // The replayer makes room by a flush; without a spool it latches when it can't.
    core_.room_wanted = true;
    core_.wake_if_room_is_due();
    if (std::find(line.begin(), line.end(), &change) == line.end()) line.push_back(&change);
    core_.wait_for(change.turn, *until);
  }
}

// Returns when the change is done or leads a batch.
void Writer::wait_for_turn(Change& change) {
  const TimePoint start = core_.clock.now();
  LastLook last_look;
  while (change.state != Change::State::kDone && !change.leads) {
    const TimePoint give_up = mode_.give_up_waiting_at(core_.waiting_since(start));
    if (change.state == Change::State::kTaken || change.to_spool) {
      // In a batch that is being sent, or on its way to the spool: that ends.
      change.turn.wait(core_.mutex);
    } else if (const auto until = last_look.wait_until(give_up, core_.clock.now())) {
      core_.wait_for(change.turn, *until);
    } else {
      core_.finish({&change}, core_.share.wait_failure());
    }
  }
}

// Sends the batch and finishes it. False: it is not sent, and belongs into the spool.
bool Writer::send_batch(Change& leader) {
  const std::vector<Change*> batch = leader.batch;  // the leader goes when it is finished
  std::optional<upstream::Lease> lease = std::exchange(leader.lease, std::nullopt);
  Delivery::Outcome outcome = delivery_.deliver(
      lease, leader.result, pieces_of(batch),
      leader.stable ? Purpose::kStableChange : Purpose::kChange, Purpose::kChange);
  if (outcome.to_fallback) return false;
  std::vector<journal::RecordPtr> records;
  if (outcome.status.ok() && !make_records(batch, records))
    outcome.status = not_recorded(*lease, records.size(), batch);
  // What the connection has carried latches, or becomes orphans, before the failure is known.
  if (!outcome.status.ok()) lease.reset();
  MutexLock lock(core_.mutex);
  if (outcome.status.ok()) acknowledge(batch, lease->id(), std::move(records));
  core_.finish(batch, outcome.status);
  // Then there is none for the others either.
  if (outcome.no_connection) core_.finish(core_.queue.waiting(), outcome.status);
  return true;
  // The mutex goes first, then the lease.
}

// Their content, for the log. False: there is no memory for it.
bool Writer::make_records(const std::vector<Change*>& batch,
                          std::vector<journal::RecordPtr>& records) {
  if (batch.front()->stable || !core_.options.keeps_content()) return true;
  try {
    records.reserve(batch.size());  // so that no record is made and not kept
    for (const Change* each : batch)
      records.push_back(journal::ReplayLog::make_record(core_.log_memory, each->range,
                                                        each->sequence, each->data));
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

// The server has the batch, and nobody could send it again: it is retired with its
// connection. The first `recorded` records give their memory back by themselves.
Status Writer::not_recorded(upstream::Lease& lease, size_t recorded,
                            const std::vector<Change*>& batch) {
  const Status failure(Kind::kNoMemory,
                       core_.options.name + ": out of memory for the replay log");
  exchange_.apply_verdict(lease, Purpose::kStableChange, failure);
  MutexLock lock(core_.mutex);
  for (size_t i = 0; i < recorded; ++i) batch[i]->memory = 0;
  return failure;
}

// Before the lease is given back, and before any client knows: a flush that
// begins later must find it (invariant 5).
void Writer::acknowledge(const std::vector<Change*>& batch, ConnectionId id,
                         std::vector<journal::RecordPtr> records) {
  journal::ReplayLog& log = core_.unflushed.log;
  // The newest content of a row's bytes is in the spool.
  assert(!core_.unflushed.rows().overlaps(range_of(batch)));
  if (batch.front()->stable) {
    log.supersede(range_of(batch));
    core_.wake_waiting();  // it may have been what a flush waits for
    core_.wake_if_room_is_due();
    return;
  }
  if (!core_.options.keeps_content()) {
    log.add(id);
    return;
  }
  for (journal::RecordPtr& record : records) log.add(std::move(record), id);
  for (Change* change : batch) change->memory = 0;  // it is the record's now
  core_.wake_waiting();                             // older content has made room
  core_.wake_if_room_is_due();
  if (core_.spool_state == SpoolState::kSpooling) core_.spool_work.notify_one();
}

}  // namespace upload::volume
