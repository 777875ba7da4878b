// SPDX-License-Identifier: BSD-3-Clause
//
// Reads: what is acknowledged and not stable comes from the replay log, in
// memory or in the spool, since the server may have lost it without anybody
// having noticed yet; the rest comes from the server. With a replay log both
// reads and extents are repeated during an outage: they change nothing.

#include <cassert>
#include <cstring>
#include <utility>

#include "volume/volume.h"

namespace upload::volume {

Status Volume::read(ByteRange range, void* data) {
  assert(range.length > 0 && range.end() <= size());
  Retry retry = make_retry();
  for (;;) {
    bool again = false;
    const Status status = read_once(range, data, again);
    if (again) continue;
    if (status.ok() || !replays()) return status;
    if (wait_to_retry(retry, status, Purpose::kRead) != Next::kTryAgain)
      return latched_or(status);
  }
}

// `again`: what was in the spool has gone to the server meanwhile.
Status Volume::read_once(ByteRange range, void* data, bool& again) {
  std::vector<journal::Slice> unstable;
  {
    MutexLock lock(mutex_);
    if (latched_) return *latched_;
    unstable = log_.slices(range);
  }
  uint64_t covered = 0;
  for (const journal::Slice& slice : unstable) covered += slice.range.length;
  Status status;
  if (covered < range.length) status = read_from_server(range, data);
  for (const journal::Slice& slice : unstable) {
    if (!status.ok() || again) break;
    std::byte* const to = static_cast<std::byte*>(data) + (slice.range.offset - range.offset);
    status = read_from_log(slice, to, again);
  }
  if (!unstable.empty()) {
    unstable.clear();
    MutexLock lock(mutex_);
    wake_waiting();  // it may have been the last to hold a record
  }
  return status;
}

Status Volume::read_from_log(const journal::Slice& slice, std::byte* to, bool& again) {
  const journal::Record& record = *slice.record;
  if (record.zero) {
    memset(to, 0, slice.range.length);
  } else if (record.row == 0) {
    memcpy(to, record.at(slice.range.offset), slice.range.length);
  } else {
    const Result<bool> there = read_row(slice, to);
    if (!there.ok()) {
      latch_unless_full(there.status());
      return there.status();
    }
    again = !there.value();
  }
  return {};
}

// False: the row is gone.
Result<bool> Volume::read_row(const journal::Slice& slice, std::byte* to) {
  const journal::Record& record = *slice.record;
  return options_.spool->read(record.row, slice.range.offset - record.range.offset, to,
                              slice.range.length);
}

Status Volume::read_from_server(ByteRange range, void* data) {
  Result<pool::Lease> lease = pool_.lease();
  if (!lease.ok()) return lease.status().while_doing(options_.name + ": could not read");
  lease.value().replace_if_closed();
  if (Status status = latched(); !status.ok()) return status;

  const http::Request request = options_.target->read(range, data);
  const TimePoint start = clock_.now();
  const Result<http::Reply> reply = lease.value().perform(request);
  note_long_attempt(start);
  const Status status = unless_forgotten(
      reply.ok() ? options_.target->check_read(reply.value(), range) : reply.status());
  if (status.ok()) {
    stats_.add(Stats::Op::kRead, range.length, 1, clock_.now() - start);
    note_answer(start);
    note_success();
    return status;
  }
  stats_.add_failure(Stats::Op::kRead);
  judge(lease.value(), Purpose::kRead, status);
  return status.while_doing(options_.name + ": could not " + request.what);
}

// One client after another: each list may be long, and those who wait find it known.
Result<Extents> Volume::extents() {
  MutexLock one_at_a_time(extents_mutex_);
  Retry retry = make_retry();
  for (;;) {
    Result<Extents> extents = extents_from_server();
    if (extents.ok() || !replays()) return extents;
    if (wait_to_retry(retry, extents.status(), Purpose::kRead) != Next::kTryAgain)
      return latched_or(extents.status());
  }
}

// Unless they are known.
Result<Extents> Volume::extents_from_server() {
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

  const auto reader = options_.target->extents_reader(size());
  http::Request request = options_.target->extents(*reader);
  request.within = kLongestList * options_.late;
  const TimePoint start = clock_.now();
  const Result<http::Reply> reply = lease.value().perform(request);
  Result<std::vector<target::Extent>> list =
      reply.ok() ? options_.target->read_extents(reply.value(), *reader)
                 : Result<std::vector<target::Extent>>(reply.status());
  if (list.ok() && (list.value().empty() || list.value().back().range.end() < size()))
    list = Status(Kind::kMalformed, "the extents end before the disk does");
  if (!list.ok()) {
    list = unless_forgotten(list.status());
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

}  // namespace upload::volume
