// SPDX-License-Identifier: BSD-3-Clause
//
// Counters and their print-out. Rows are read without stopping the writers:
// at exit nobody writes any more.

#include "base/stats.h"

#include <cinttypes>

#include "base/format.h"

namespace upload {

namespace {

constexpr const char* kNames[] = {"write",      "zero",    "read",  "flush",
                                  "keep-alive", "extents", "replay"};

}  // namespace

void Stats::add(Op op, uint64_t bytes, uint64_t changes, Duration latency) {
  const auto us = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(latency).count());
  Row& row = rows_[static_cast<size_t>(op)];
  ++row.requests;
  row.changes += changes;
  row.bytes += bytes;
  row.total_us += us;
  uint64_t worst = row.worst_us;
  while (us > worst && !row.worst_us.compare_exchange_weak(worst, us)) {
  }
}

void Stats::add_failure(Op op) { ++rows_[static_cast<size_t>(op)].failures; }

std::vector<std::string> Stats::lines() const {
  std::vector<std::string> lines;
  for (size_t i = 0; i < rows_.size(); ++i) {
    const Row& row = rows_[i];
    const uint64_t requests = row.requests;
    if (requests == 0 && row.failures == 0) continue;
    const auto divisor = static_cast<double>(requests == 0 ? 1 : requests);
    lines.push_back(format("%s: %" PRIu64 " requests for %" PRIu64 " of clients (%.1f each), "
                           "%" PRIu64 " bytes, %" PRIu64 " failed, "
                           "latency %.3f ms mean, %.3f ms at most",
                           kNames[i], requests, row.changes.load(),
                           static_cast<double>(row.changes) / divisor, row.bytes.load(),
                           row.failures.load(),
                           static_cast<double>(row.total_us) / divisor / 1000,
                           static_cast<double>(row.worst_us) / 1000));
  }
  return lines;
}

}  // namespace upload
