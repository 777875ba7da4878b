// SPDX-License-Identifier: BSD-3-Clause
//
// Counters and their print-out. A request that succeeds is counted once, in the bucket of its
// time: how many there were is the sum of the buckets, so that a histogram always adds up.

#include "base/stats.h"

#include <algorithm>
#include <cinttypes>
#include <numeric>

#include "base/format.h"

namespace upload {

namespace {

constexpr const char* kNames[] = {"write",      "zero",    "read",  "flush",
                                  "keep-alive", "extents", "replay"};
static_assert(std::size(kNames) == Stats::kOps);

}  // namespace

const char* Stats::name(Op op) { return kNames[static_cast<size_t>(op)]; }

uint64_t Stats::Counts::succeeded() const {
  return std::accumulate(latencies.begin(), latencies.end(), uint64_t{0});
}

uint64_t Stats::Counts::failed() const {
  return std::accumulate(failures.begin(), failures.end(), uint64_t{0});
}

void Stats::add(Op op, uint64_t bytes, uint64_t changes, Duration latency) {
  const auto us = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(latency).count());
  // Its bounds are the greatest values that belong to the buckets.
  const auto bucket = std::lower_bound(kBoundsUs.begin(), kBoundsUs.end(), us);
  Row& row = rows_[static_cast<size_t>(op)];
  ++row.latencies[static_cast<size_t>(bucket - kBoundsUs.begin())];
  row.changes += changes;
  row.bytes += bytes;
  row.total_us += us;
  uint64_t worst = row.worst_us;
  while (us > worst && !row.worst_us.compare_exchange_weak(worst, us)) {
  }
}

void Stats::add_failure(Op op, Kind kind) {
  ++rows_[static_cast<size_t>(op)].failures[static_cast<size_t>(kind)];
}

Stats::AllCounts Stats::counts() const {
  AllCounts all;
  for (size_t op = 0; op < kOps; ++op) {
    const Row& row = rows_[op];
    Counts& counts = all[op];
    std::copy(row.latencies.begin(), row.latencies.end(), counts.latencies.begin());
    std::copy(row.failures.begin(), row.failures.end(), counts.failures.begin());
    counts.changes = row.changes;
    counts.bytes = row.bytes;
    counts.total_us = row.total_us;
    counts.worst_us = row.worst_us;
  }
  return all;
}

std::vector<std::string> Stats::lines(const AllCounts& counts) {
  std::vector<std::string> lines;
  for (size_t i = 0; i < counts.size(); ++i) {
    const Counts& row = counts[i];
    const uint64_t requests = row.succeeded();
    if (requests == 0 && row.failed() == 0) continue;
    const auto divisor = static_cast<double>(requests == 0 ? 1 : requests);
    lines.push_back(format("%s: %" PRIu64 " requests for %" PRIu64 " of clients (%.1f each), "
                           "%" PRIu64 " bytes, %" PRIu64 " failed, "
                           "latency %.3f ms mean, %.3f ms at most",
                           kNames[i], requests, row.changes,
                           static_cast<double>(row.changes) / divisor, row.bytes, row.failed(),
                           static_cast<double>(row.total_us) / divisor / 1000,
                           static_cast<double>(row.worst_us) / 1000));
  }
  return lines;
}

}  // namespace upload
