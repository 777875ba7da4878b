// SPDX-License-Identifier: BSD-3-Clause
//
// From rows to requests, in the order of the disk's offsets.

#include "volume/row_sender.h"

#include <algorithm>
#include <boost/icl/interval_set.hpp>
#include <cassert>
#include <chrono>
#include <memory>
#include <utility>

#include "volume/late_copies.h"
#include "volume/pieces.h"

namespace upload::volume {

namespace {

// Where a probe did not tell enough.
constexpr Duration kProbeAgain = std::chrono::seconds(1);
// The server may be away for as long as there is room.
constexpr Duration kForever = std::chrono::hours(10 * 365 * 24);

}  // namespace

Status RowSender::send(RowGroup& group) {
  std::vector<journal::Slice> slices;
  {
    MutexLock lock(core_.mutex);
    if (!hold(group)) return {};
    slices = slices_to_send(group);
    core_.unflushed.begin_sending({group.rows.data(), group.sent});
  }
  return send(slices);
}

// Holds all that requests for the rows write. Two that touch the same block are one range: the
// second would wait for the first.
bool RowSender::hold(RowGroup& group) {
  boost::icl::interval_set<uint64_t> ranges;
  for (const journal::SpoolRow& row : group.rows) {
    const ByteRange blocks = core_.blocks_of(row.range);
    ranges.add(boost::icl::interval<uint64_t>::right_open(blocks.offset, blocks.end()));
  }
  for (const auto& range : ranges)
    group.held.emplace_back().range = {range.lower(), range.upper() - range.lower()};
  return core_.hold(group.held);
}

// What is to be sent of the rows, in the order of offsets. From the first row
// on to which a late copy of something else may come, they stay for later.
std::vector<journal::Slice> RowSender::slices_to_send(RowGroup& group) {
  std::vector<journal::Slice> all;
  std::optional<TimePoint> doubt;
  for (const journal::SpoolRow& row : group.rows) {
    std::vector<journal::Slice> slices = core_.unflushed.seen_slices(row);
    for (const journal::Slice& slice : slices)
      if (!doubt)
        doubt = core_.late_copies.until(slice.range, slice.record->sequence, core_.clock.now());
    if (doubt) break;
    std::move(slices.begin(), slices.end(), std::back_inserter(all));
    ++group.sent;
  }
  if (doubt && *doubt == LateCopies::kUnknown) {
    // The next attempt begins with a probe, whose answer tells.
    if (group.sent == 0) core_.drain_progress.leave_alone(core_.clock.now() + kProbeAgain);
  } else if (doubt) {
    if (group.sent == 0) core_.drain_progress.leave_alone(*doubt);
    core_.drain_progress.hold_back(*doubt);
  }
  std::sort(all.begin(), all.end(), [](const journal::Slice& a, const journal::Slice& b) {
    return a.range.offset < b.range.offset;
  });
  return all;
}

// Makes the content of the slices stable on the server. What was achieved is kept,
// however often connections are lost: the log forgets it, and only the rest of the rows
// is sent the next time. The rows stay until all of them is stable.
Status RowSender::send(const std::vector<journal::Slice>& slices) {
  std::vector<std::unique_ptr<std::byte[]>> buffers;
  Pieces pieces;
  for (const journal::Slice& slice : slices) {
    const std::byte* data = nullptr;
    if (!slice.record->zero) {
      Result<std::unique_ptr<std::byte[]>> there = spooler_.load(slice);
      if (!there.ok()) return there.status();
      assert(there.value());  // nobody else drops rows of the group
      data = there.value().get();
      buffers.push_back(std::move(there.value()));
    }
    pieces.push_back({slice.range, data, slice.record->sequence});
  }
  const std::vector<Pieces> requests = split(pieces, core_.options.limits);
  for (std::span<const Pieces> left = requests; !left.empty();) {
    const Result<size_t> sent = resender_.send_some(left);
    if (!sent.ok()) return sent.status();
    succeeded();
    left = left.subspan(sent.value());
  }
  succeeded();
  return {};
}

// At once, then after growing pauses, for as long as it takes.
std::optional<TimePoint> RowSender::next_attempt(const Status& failure) {
  // Often enough that whoever gives up has seen it fail a few times.
  const Duration most = core_.options.retry_time / 4;
  if (!retry_)
    retry_.emplace(core_.clock, Purpose::kResend,
                   Retry::Limits{.total = kForever,
                                 .pause = std::min(Retry::kLongestPause, most),
                                 .asked = std::min(Retry::kLongestAsked, most)});
  return retry_->next(failure);
}

}  // namespace upload::volume
