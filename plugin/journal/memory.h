// SPDX-License-Identifier: BSD-3-Clause
//
// Memory: the bounded memory of a replay log. It counts what is in use, and
// keeps buffers that were given back for the next change: giving them back to
// the system and faulting them in again cost more than the copying itself
// (a fifth of the CPU time of an upload).
//
// Thread safe. Outlives its buffers, which own a share of it.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/mutex.h"

namespace upload::journal {

class Memory {
 public:
  // In bytes, for what is in use and what is kept together.
  explicit Memory(uint64_t limit) : limit_(limit) {}

  [[nodiscard]] uint64_t limit() const { return limit_; }
  [[nodiscard]] uint64_t used() const { return used_; }

  // Counts that as in use, if there is room.
  [[nodiscard]] bool reserve(uint64_t bytes);
  void unreserve(uint64_t bytes) { used_ -= bytes; }

  // A buffer of capacity(bytes), which has been reserved.
  [[nodiscard]] std::unique_ptr<std::byte[]> take(uint64_t bytes) EXCLUDES(mutex_);
  // Takes it back. What it counts for stays reserved.
  void give_back(std::unique_ptr<std::byte[]> buffer, uint64_t bytes) EXCLUDES(mutex_);

  // The size of the buffer for so many bytes.
  [[nodiscard]] static uint64_t capacity(uint64_t bytes);

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> used_ = 0;

  Mutex mutex_;
  // By capacity.
  std::map<uint64_t, std::vector<std::unique_ptr<std::byte[]>>> kept_ GUARDED_BY(mutex_);
  uint64_t kept_bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace upload::journal
