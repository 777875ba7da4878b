// SPDX-License-Identifier: BSD-3-Clause
//
// A read looks into the log before it asks the server: what the log has, the server may have
// lost.

#include "volume/reader.h"

#include <cassert>
#include <cstring>

namespace upload::volume {

Status Reader::read(ByteRange range, void* data) {
  assert(range.length > 0 && range.end() <= core_.options.size);
  Retry retry = mode_.make_retry(Purpose::kRead);
  for (;;) {
    bool gone = false;
    const Status status = read_once(range, data, gone);
    if (gone) continue;
    if (status.ok()) return status;
    if (mode_.after_failure(retry, status) != Mode::Next::kTryAgain)
      return mode_.given_up(status);
  }
}

// `gone`: what was in the spool has gone to the server meanwhile, and is to be looked for
// again.
Status Reader::read_once(ByteRange range, void* data, bool& gone) {
  std::vector<journal::Slice> unstable;
  {
    MutexLock lock(core_.mutex);
    if (core_.health.latched()) return *core_.health.latched();
    unstable = core_.unflushed.log.slices(range);
  }
  uint64_t covered = 0;
  for (const journal::Slice& slice : unstable) covered += slice.range.length;
  Status status;
  if (covered < range.length) status = read_from_server(range, data);
  for (const journal::Slice& slice : unstable) {
    if (!status.ok() || gone) break;
    std::byte* const to = static_cast<std::byte*>(data) + (slice.range.offset - range.offset);
    status = read_from_log(slice, to, gone);
  }
  if (!unstable.empty()) {
    unstable.clear();
    MutexLock lock(core_.mutex);
    core_.wake_waiting();  // it may have been the last to hold a record
  }
  return status;
}

Status Reader::read_from_log(const journal::Slice& slice, std::byte* to, bool& gone) {
  const journal::Record& record = *slice.record;
  if (record.zero) {
    memset(to, 0, slice.range.length);
  } else if (record.row == 0) {
    memcpy(to, record.at(slice.range.offset), slice.range.length);
  } else {
    const Result<bool> there = fallback_.read(slice, to);
    if (!there.ok()) return there.status();
    gone = !there.value();
  }
  return {};
}

Status Reader::read_from_server(ByteRange range, void* data) {
  Result<upstream::Lease> lease = lease_for(": could not read");
  if (!lease.ok()) return lease.status();
  return exchange_.read(lease.value(), range, data);
}

Status Reader::probe() {
  Result<upstream::Lease> lease = lease_for(": could not OPTIONS");
  if (!lease.ok()) return lease.status();
  return exchange_.probe(lease.value());
}

// Unless an error has latched meanwhile. `doing` goes into the text of a failure.
Result<upstream::Lease> Reader::lease_for(const char* doing) {
  Result<upstream::Lease> lease = core_.lease();
  if (!lease.ok()) return lease.status().while_doing(core_.options.name + doing);
  lease.value().replace_if_closed();
  if (Status status = core_.latched(); !status.ok()) return status;
  return lease;
}

Result<Extents> Reader::extents() {
  MutexLock one_at_a_time(extents_mutex_);
  Retry retry = mode_.make_retry(Purpose::kRead);
  for (;;) {
    Result<Extents> extents = extents_from_server();
    if (extents.ok()) return extents;
    if (mode_.after_failure(retry, extents.status()) != Mode::Next::kTryAgain)
      return mode_.given_up(extents.status());
  }
}

// Unless they are known.
Result<Extents> Reader::extents_from_server() {
  uint64_t changes_before = 0;
  bool quiet = false;
  {
    MutexLock lock(core_.mutex);
    if (core_.health.latched()) return *core_.health.latched();
    changes_before = core_.changes_begun;
    if (known_ && known_after_ == changes_before) return known_;
    quiet = core_.queue.empty();
    // The server may have lost what is in the log: say that all is data.
    if (!core_.unflushed.log.empty())
      return Extents(std::make_shared<const std::vector<target::Extent>>(
          1, target::Extent{{0, core_.options.size}, false, false}));
  }
  known_.reset();
  Result<upstream::Lease> lease = lease_for(": extents");
  if (!lease.ok()) return lease.status();
  Result<std::vector<target::Extent>> list = exchange_.extents(lease.value());
  if (!list.ok()) return list.status();
  auto extents = std::make_shared<const std::vector<target::Extent>>(std::move(list.value()));
  MutexLock lock(core_.mutex);
  // No change was under way while the server looked.
  if (quiet && core_.changes_begun == changes_before) {
    known_ = extents;
    known_after_ = changes_before;
  }
  return Extents(extents);
}

}  // namespace upload::volume
