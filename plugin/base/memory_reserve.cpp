// SPDX-License-Identifier: BSD-3-Clause
//
// A block that malloc maps on its own, so that all of it is free once it is given back. It
// is not written to: what is counted are limits on the process (setrlimit(2), RLIMIT_AS and
// RLIMIT_DATA), not pages.

#include "base/memory_reserve.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace upload {

namespace {

static_assert(std::atomic<void*>::is_always_lock_free);
std::atomic<void*> reserve = nullptr;
std::new_handler next = nullptr;  // constant after set_up()

// operator new tries again when this returns.
void give_reserve() {
  if (void* const block = reserve.exchange(nullptr)) return free(block);
  if (next == nullptr) throw std::bad_alloc();
  next();
}

}  // namespace

void MemoryReserve::set_up() noexcept {
  (void)there();
  const std::new_handler before = std::get_new_handler();
  if (before == give_reserve) return;
  next = before;
  std::set_new_handler(give_reserve);
}

bool MemoryReserve::there() noexcept {
  if (reserve != nullptr) return true;
  void* const block = malloc(kBytes);
  void* expected = nullptr;
  if (block != nullptr && !reserve.compare_exchange_strong(expected, block)) free(block);
  return block != nullptr;
}

}  // namespace upload
