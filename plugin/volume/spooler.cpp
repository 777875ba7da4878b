// SPDX-License-Identifier: BSD-3-Clause
//
// Rows are made of changes by the threads of these, and of what is in memory by a job.

#include "volume/spooler.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cstring>
#include <list>

#include "base/log.h"
#include "volume/verdict.h"

namespace upload::volume {

namespace {

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

Spooler::Spooler(Core& core) : core_(core), spool_(*core.options.spool) {
  MutexLock lock(core_.mutex);
  take_leftovers();
}

// What an earlier process could not send, and what it may have under way.
void Spooler::take_leftovers() {
  const Duration late = core_.options.late;
  const ByteRange disk{0, core_.options.size};
  const std::vector<journal::SpoolRow> rows = spool_.take_rows();
  const TimePoint now = core_.clock.now();
  for (const journal::SpoolRow& row : rows) {
    core_.unflushed.add_row(row);
    const ByteRange blocks = core_.blocks_of(row.range);
    // A request for a part of a block has the rest of it as it was then: where it comes late it
    // undoes other rows of the block.
    const bool undoes_others = blocks != row.range;
    if (row.not_before == 0 && !undoes_others) continue;
    const Duration wait = row.not_before == INT64_MAX || undoes_others
                              ? late
                              : std::min(until_wall_time(core_.clock, row.not_before), late);
    if (wait > Duration::zero())
      core_.late_copies.add_until(blocks, UINT64_MAX, UINT64_MAX, now + wait);
  }
  if (rows.empty()) {
    if (core_.options.unclean_start)
      core_.late_copies.add_until(disk, UINT64_MAX, UINT64_MAX, now + late);
    return;
  }
  const uint64_t last = rows.back().sequence;
  core_.queue.set_last_sequence(last);
  // Rows may go at once: what may come late to a row's range is the row itself,
  // or was known when the row was made.
  core_.late_copies.add_until(disk, 1, last, now + late);
  core_.has_leftovers = core_.had_leftovers = true;
  enter(SpoolState::kDraining);
}

void Spooler::enter(SpoolState state) {
  core_.mutex.assert_held();
  if (core_.spool_state == state) return;
  assert(may_follow(core_.spool_state, state));
  core_.spool_state = state;
  core_.queue.set_spooling(state == SpoolState::kSpooling);
  core_.find_leaders();
  core_.wake_workers();
  core_.wake_all();
}

void Spooler::latch_unless_full(const Status& failure) {
  if (!disk_may_recover(failure.kind())) core_.latch(failure);
}

// --- Into the spool -------------------------------------------------------

bool Spooler::begin(const Status& why, TimePoint until) {
  core_.note_outage(why);
  {
    MutexLock lock(core_.mutex);
    core_.drain_progress.leave_alone(until);
    if (core_.health.latched()) return false;
    if (core_.spool_state == SpoolState::kSpooling) return true;
    core_.note_draining_fails();
    enter(SpoolState::kSpooling);
  }
  log::warning("%s: the server does not answer, changes go to the spool %s from now on: %s",
               core_.options.name.c_str(), spool_.path().c_str(), why.text().c_str());
  return true;
}

// A new row; null `data`: zeroes.
journal::SpoolContent Spooler::make_row(ByteRange range, uint64_t sequence, const void* data) {
  const TimePoint now = core_.clock.now();
  const auto doubt = core_.late_copies.until(range, sequence, now);
  const int64_t not_before = !doubt ? 0
                             : *doubt == LateCopies::kUnknown
                                 ? INT64_MAX
                                 : wall_time(core_.clock, *doubt - now);
  return {{core_.unflushed.new_row_id(), range, sequence, data == nullptr, not_before}, data};
}

void Spooler::append_and_finish(const Change& leader) {
  const std::vector<Change*> batch = leader.batch;  // the leader goes when it is finished
  std::vector<journal::SpoolContent> contents;
  {
    MutexLock lock(core_.mutex);
    for (const Change* change : batch)
      contents.push_back(make_row(change->range, change->sequence, change->data));
  }
  const std::vector<Status> results = append(contents);
  MutexLock lock(core_.mutex);
  core_.appending = false;
  core_.wake_workers();
  for (size_t i = 0; i < contents.size(); ++i) {
    if (!results[i].ok()) continue;
    // The batch may have been on its way here since before the last row was drained.
    if (core_.spool_state == SpoolState::kDirect) enter(SpoolState::kDraining);
    core_.unflushed.add_row(contents[i].row);
  }
  for (size_t i = 0; i < batch.size(); ++i)
    core_.finish({batch[i]}, results[i].while_doing(core_.options.name));
}

// All together; one by one where the disk is full, so that a large one does not keep the
// others out of what is left of it.
std::vector<Status> Spooler::append(std::span<const journal::SpoolContent> contents) {
  std::vector<Status> results(contents.size(), spool_.append(contents));
  if (disk_may_recover(results.front().kind()) && results.size() > 1)
    for (size_t i = 0; i < contents.size(); ++i)
      results[i] = spool_.append(contents.subspan(i, 1));
  for (const Status& result : results)
    if (!result.ok()) latch_unless_full(result);
  UPLOAD_DEBUG(journal, "spool: %zu changes appended: %s", contents.size(),
               results.front().ok() ? "ok" : results.front().text().c_str());
  return results;
}

Result<bool> Spooler::read(const journal::Slice& slice, std::byte* to) {
  const Result<std::unique_ptr<std::byte[]>> data = load(slice);
  if (!data.ok()) return data.status();
  if (data.value() == nullptr) return false;
  memcpy(to, data.value().get(), slice.range.length);
  return true;
}

Result<std::unique_ptr<std::byte[]>> Spooler::load(const journal::Slice& slice) {
  const journal::Record& record = *slice.record;
  auto data =
      spool_.read(record.row, slice.range.offset - record.range.offset, slice.range.length);
  if (!data.ok()) latch_unless_full(data.status());
  return data;
}

// --- Who waits for the spool, and what becomes of it ----------------------

Status Spooler::wait_for_leftovers() {
  MutexLock lock(core_.mutex);
  const TimePoint start = core_.clock.now();
  while (core_.has_leftovers) {
    if (core_.health.latched()) return *core_.health.latched();
    if (core_.health.stopping()) return {Kind::kShutdown, "the plugin is shutting down"};
    const TimePoint give_up = core_.give_up_on_spool_at(start);
    if (core_.clock.now() >= give_up) return core_.waited_for_spool("open the disk");
    core_.wait_for(core_.state_changed, give_up);
  }
  return {};
}

void Spooler::wait_until_empty(Duration give_up_after) {
  MutexLock lock(core_.mutex);
  const TimePoint start = core_.clock.now();
  core_.waits_for_spool = true;
  while (core_.spool_is_busy() && !core_.health.over()) {
    const TimePoint give_up = core_.drain_progress.given_up_at(start, give_up_after);
    if (core_.clock.now() >= give_up) break;
    core_.wait_for(core_.became_stable, give_up);
  }
  core_.waits_for_spool = false;
}

void Spooler::keep() {
  spool_.keep();
  bool empty = false;
  {
    MutexLock lock(core_.mutex);
    empty = core_.unflushed.rows().empty();
  }
  if (empty)
    log::warning(
        "%s: the spool %s stays, empty: it tells the next start that the server may "
        "still apply requests that have failed",
        core_.options.name.c_str(), spool_.path().c_str());
}

// --- What is in memory ----------------------------------------------------

Job Spooler::move_job(TimePoint& not_before) {
  core_.mutex.assert_held();
  if (core_.spool_state != SpoolState::kSpooling || !core_.unflushed.log.has_in_memory())
    return nullptr;
  if (core_.clock.now() >= next_move_) return [this] { move(); };
  not_before = std::min(not_before, next_move_);
  return nullptr;
}

void Spooler::move() {
  HeldRanges held(1);
  std::vector<journal::Slice> slices;
  std::vector<journal::SpoolContent> contents;
  {
    MutexLock lock(core_.mutex);
    const auto range = core_.unflushed.log.first_in_memory(journal::Spool::kMostAppended);
    if (!range || core_.health.latched()) return;
    held.front().range = *range;
    if (!core_.hold(held)) return;
    for (journal::Slice& slice : core_.unflushed.log.slices(*range)) {
      const journal::Record& record = *slice.record;
      if (record.row != 0) continue;
      contents.push_back(make_row(slice.range, record.sequence, record.at(slice.range.offset)));
      slices.push_back(std::move(slice));
    }
  }
  const Status status = spool_.append(contents);
  if (!status.ok()) latch_unless_full(status);
  slices.clear();
  MutexLock lock(core_.mutex);
  if (status.ok())
    for (const journal::SpoolContent& content : contents)
      core_.unflushed.move_to_row(content.row);
  else
    next_move_ = core_.clock.now() + kDiskAgain;
  core_.let_go(held);
}

}  // namespace upload::volume
