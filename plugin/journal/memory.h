// SPDX-License-Identifier: BSD-3-Clause
//
// Memory: the bounded memory of a replay log. It counts what is in use, and
// keeps buffers that were given back for the next change: giving them back to
// the system and faulting them in again cost more than the copying itself
// (a fifth of the CPU time of an upload). Small ones are cut from a block together, as one
// from the C library for each was a third of what the log costs with changes of 4 KiB.
//
// With several logs in a process each has a part that is its own, whatever the others do, and
// may borrow from what is common to all. A log that waits for room has content of its own, whose
// flush makes some: it never waits for another log to give back what that has borrowed.
//
// Thread safe. Outlives its buffers, which own a share of it.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace upload::journal {

// What several logs may borrow from, in bytes.
class CommonMemory {
 public:
  explicit CommonMemory(uint64_t limit) : limit_(limit) {}

  [[nodiscard]] uint64_t limit() const { return limit_; }
  [[nodiscard]] uint64_t left() const { return limit_ - used_; }
  [[nodiscard]] bool borrow(uint64_t bytes);
  void give_back(uint64_t bytes) { used_ -= bytes; }

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> used_ = 0;
};

class Memory {
 public:
  // `own` bytes, for what is in use and what is kept together, and what can be borrowed from
  // `common`; null: nothing.
  explicit Memory(uint64_t own, std::shared_ptr<CommonMemory> common = nullptr)
      : own_(own), common_(std::move(common)) {}

  // There can be anything in it.
  [[nodiscard]] bool exists() const { return own_ > 0; }
  [[nodiscard]] uint64_t used() const { return used_; }
  // The most that can be in use.
  [[nodiscard]] uint64_t limit() const { return own_ + (common_ ? common_->limit() : 0); }
  // What could be reserved now.
  [[nodiscard]] uint64_t left() const { return own_left() + (common_ ? common_->left() : 0); }
  [[nodiscard]] uint64_t own_left() const {
    const uint64_t used = used_;
    return own_ > used ? own_ - used : 0;
  }

  // Counts that as in use, if there is room.
  [[nodiscard]] bool reserve(uint64_t bytes);
  void unreserve(uint64_t bytes);

  // Owns a share of the block that it was cut from.
  using Buffer = std::shared_ptr<std::byte[]>;
  // A buffer of capacity(bytes), which has been reserved.
  [[nodiscard]] Buffer take(uint64_t bytes) EXCLUDES(mutex_);
  // Takes it back. What it counts for stays reserved.
  void give_back(Buffer buffer, uint64_t bytes) EXCLUDES(mutex_);

  // The size of the buffer for so many bytes.
  [[nodiscard]] static uint64_t capacity(uint64_t bytes);

 private:
  // Of so much in use, what is borrowed.
  [[nodiscard]] uint64_t borrowed(uint64_t used) const { return used > own_ ? used - own_ : 0; }
  // What may be kept beside what is in use; nothing: less than that has to be.
  [[nodiscard]] std::optional<uint64_t> room_to_keep() const REQUIRES(mutex_);
  void drop_kept() REQUIRES(mutex_);
  [[nodiscard]] Buffer cut(uint64_t size, std::vector<Buffer>& kept) REQUIRES(mutex_);

  const uint64_t own_;
  const std::shared_ptr<CommonMemory> common_;
  std::atomic<uint64_t> used_ = 0;

  Mutex mutex_;
  // By capacity.
  std::map<uint64_t, std::vector<Buffer>> kept_ GUARDED_BY(mutex_);
  uint64_t kept_bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace upload::journal
