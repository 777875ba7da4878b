// SPDX-License-Identifier: BSD-3-Clause
//
// Buffers have few sizes, so that one that was given back fits again: powers
// of two from 512 bytes up to 64 KiB, multiples of 64 KiB above.

#include "journal/memory.h"

#include <bit>
#include <new>

namespace upload::journal {

namespace {

constexpr uint64_t kSmallest = 512;
constexpr uint64_t kStep = uint64_t{64} << 10;

}  // namespace

uint64_t Memory::capacity(uint64_t bytes) {
  if (bytes <= kSmallest) return kSmallest;
  if (bytes <= kStep) return std::bit_ceil(bytes);
  return (bytes + kStep - 1) / kStep * kStep;
}

bool CommonMemory::borrow(uint64_t bytes) {
  uint64_t used = used_;
  do {
    if (bytes > limit_ - used) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes));
  return true;
}

bool Memory::reserve(uint64_t bytes) {
  uint64_t used = used_;
  for (;;) {
    const uint64_t more = borrowed(used + bytes) - borrowed(used);
    if (more > 0 && (!common_ || !common_->borrow(more))) return false;
    if (used_.compare_exchange_strong(used, used + bytes)) return true;
    if (more > 0) common_->give_back(more);
  }
}

void Memory::unreserve(uint64_t bytes) {
  uint64_t used = used_;
  while (!used_.compare_exchange_weak(used, used - bytes)) {
  }
  const uint64_t less = borrowed(used) - borrowed(used - bytes);
  if (less > 0) common_->give_back(less);
}

std::unique_ptr<std::byte[]> Memory::take(uint64_t bytes) {
  const uint64_t size = capacity(bytes);
  MutexLock lock(mutex_);
  const auto found = kept_.find(size);
  if (found != kept_.end()) {
    std::unique_ptr<std::byte[]> buffer = std::move(found->second.back());
    found->second.pop_back();
    if (found->second.empty()) kept_.erase(found);
    kept_bytes_ -= size;
    return buffer;
  }
  // Those of other sizes must not add to the limit.
  while (!kept_.empty() && used_ + kept_bytes_ > own_) {
    const auto last = std::prev(kept_.end());
    kept_bytes_ -= last->first;
    last->second.pop_back();
    if (last->second.empty()) kept_.erase(last);
  }
  return std::make_unique_for_overwrite<std::byte[]>(size);
}

void Memory::give_back(std::unique_ptr<std::byte[]> buffer, uint64_t bytes) {
  const uint64_t size = capacity(bytes);
  MutexLock lock(mutex_);
  // The buffer itself is still counted as used.
  if (used_ + kept_bytes_ > own_) return;
  try {
    kept_[size].push_back(std::move(buffer));
    kept_bytes_ += size;
  } catch (const std::bad_alloc&) {
    // Then it is not kept.
    const auto kept = kept_.find(size);
    if (kept != kept_.end() && kept->second.empty()) kept_.erase(kept);
  }
}

}  // namespace upload::journal
