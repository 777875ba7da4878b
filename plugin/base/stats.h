// SPDX-License-Identifier: BSD-3-Clause
//
// Stats: what was sent for one volume, and how it ended, for -D upload.stats=1 and metrics=.
// Counters only, updated without a lock. Thread safe.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace upload {

class Stats {
 public:
  enum class Op { kWrite, kZero, kRead, kFlush, kKeepAlive, kExtents, kReplay, kCount };
  static constexpr size_t kOps = static_cast<size_t>(Op::kCount);
  // As users read it: "keep-alive".
  [[nodiscard]] static const char* name(Op op);

  // The upper bounds of the histogram's buckets, in microseconds; one more bucket has no bound.
  static constexpr std::array<uint64_t, 16> kBoundsUs = {
      500,     1'000,   2'500,     5'000,     10'000,    25'000,     50'000,     100'000,
      250'000, 500'000, 1'000'000, 2'500'000, 5'000'000, 10'000'000, 30'000'000, 60'000'000};
  static constexpr size_t kBuckets = kBoundsUs.size() + 1;

  // What has been counted of one operation.
  struct Counts {
    std::array<uint64_t, kBuckets> latencies{};      // requests that succeeded, by time
    std::array<uint64_t, kKinds.size()> failures{};  // requests that failed, by Kind
    uint64_t changes = 0;                            // requests of NBD clients
    uint64_t bytes = 0;
    uint64_t total_us = 0;
    uint64_t worst_us = 0;

    [[nodiscard]] uint64_t succeeded() const;
    [[nodiscard]] uint64_t failed() const;
  };
  // By Op.
  using AllCounts = std::array<Counts, kOps>;

  // A request that carried `bytes` for `changes` requests of NBD clients, and succeeded.
  void add(Op op, uint64_t bytes, uint64_t changes, Duration latency);
  void add_failure(Op op, Kind kind);
  // Something that had failed is tried again.
  void add_retry() { ++retries_; }

  // Read while others count: each number is right, but some may be newer than others.
  [[nodiscard]] AllCounts counts() const;
  [[nodiscard]] uint64_t retries() const { return retries_; }

  // One line for each operation that happened.
  [[nodiscard]] static std::vector<std::string> lines(const AllCounts& counts);

 private:
  struct Row {
    std::array<std::atomic<uint64_t>, kBuckets> latencies{};
    std::array<std::atomic<uint64_t>, kKinds.size()> failures{};
    std::atomic<uint64_t> changes = 0;
    std::atomic<uint64_t> bytes = 0;
    std::atomic<uint64_t> total_us = 0;
    std::atomic<uint64_t> worst_us = 0;
  };
  std::array<Row, kOps> rows_;
  std::atomic<uint64_t> retries_ = 0;
};

}  // namespace upload
