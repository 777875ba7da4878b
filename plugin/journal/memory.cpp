// SPDX-License-Identifier: BSD-3-Clause
//
// Buffers have few sizes, so that one that was given back fits again: powers
// of two from 512 bytes up to 64 KiB, multiples of 64 KiB above. A block that small ones are cut from
// has 64 KiB, and goes when the last of them goes.

#include "journal/memory.h"

#include <algorithm>
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

std::optional<uint64_t> Memory::room_to_keep() const {
  const uint64_t used = used_ + kept_bytes_;
  return used > own_ ? std::nullopt : std::optional(own_ - used);
}

// The largest first, until what is kept does not add to the limit.
void Memory::drop_kept() {
  for (auto kept = kept_.rbegin(); kept != kept_.rend(); ++kept)
    while (!kept->second.empty() && !room_to_keep()) {
      kept->second.pop_back();
      kept_bytes_ -= kept->first;
    }
}

// Cuts as many from a block as may be kept, and keeps all but one.
Memory::Buffer Memory::cut(uint64_t size, std::vector<Buffer>& kept) {
  const uint64_t most = size < kStep ? kStep / size - 1 : 0;
  const uint64_t more = std::min(most, room_to_keep().value_or(0) / size);
  const Buffer block = std::make_shared_for_overwrite<std::byte[]>((1 + more) * size);
  for (uint64_t i = more; i > 0; --i) {
    kept.emplace_back(block, block.get() + i * size);
    kept_bytes_ += size;
  }
  return block;
}

Memory::Buffer Memory::take(uint64_t bytes) {
  const uint64_t size = capacity(bytes);
  MutexLock lock(mutex_);
  std::vector<Buffer>& kept = kept_[size];
  if (kept.empty()) {
    drop_kept();  // of other sizes
    return cut(size, kept);
  }
  Buffer buffer = std::move(kept.back());
  kept.pop_back();
  kept_bytes_ -= size;
  return buffer;
}

void Memory::give_back(Buffer buffer, uint64_t bytes) {
  const uint64_t size = capacity(bytes);
  MutexLock lock(mutex_);
  // The buffer itself is still counted as used.
  if (!room_to_keep()) return;
  try {
    kept_[size].push_back(std::move(buffer));
    kept_bytes_ += size;
  } catch (const std::bad_alloc&) {
    // Then it is not kept.
  }
}

}  // namespace upload::journal
