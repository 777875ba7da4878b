// SPDX-License-Identifier: BSD-3-Clause
//
// Stats: what was sent, for -D upload.stats=1. Counters only, updated without
// a lock. Thread safe.

#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"

namespace upload {

class Stats {
 public:
  enum class Op { kWrite, kZero, kRead, kFlush, kKeepAlive, kExtents, kReplay, kCount };

  // A request that carried `bytes` for `changes` requests of NBD clients.
  void add(Op op, uint64_t bytes, uint64_t changes, Duration latency);
  void add_failure(Op op);

  // One line for each operation that happened.
  [[nodiscard]] std::vector<std::string> lines() const;

 private:
  struct Row {
    std::atomic<uint64_t> requests = 0;
    std::atomic<uint64_t> failures = 0;
    std::atomic<uint64_t> changes = 0;
    std::atomic<uint64_t> bytes = 0;
    std::atomic<uint64_t> total_us = 0;
    std::atomic<uint64_t> worst_us = 0;
  };
  std::array<Row, static_cast<size_t>(Op::kCount)> rows_;
};

}  // namespace upload
