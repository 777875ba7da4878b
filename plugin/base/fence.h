// SPDX-License-Identifier: BSD-3-Clause
//
// Fence: until when requests to a volume may be under way.
//
// Whoever renews the claim of the volume moves the fence forward; whoever sends looks at the
// fence before, meanwhile, and before a reply is believed. A fence that was reached stays
// closed: a renewal that comes later proves nothing about the time between.
//
// Thread safe; no I/O, and no wait.

#pragma once

#include <atomic>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"

namespace upload {

class Fence {
 public:
  // Closed until it is first moved. `clock` outlives the fence.
  explicit Fence(const Clock& clock) : clock_(clock) {}

  // Something may be sent now, and a reply that is there now may be believed.
  [[nodiscard]] bool open() const noexcept { return clock_.boot_now() < until_.load(); }
  // ok() while it is open; else kClaimLost, with the reason.
  [[nodiscard]] Status check() const EXCLUDES(mutex_) { return open() ? Status() : why(); }
  // What a request fails with that has found it closed: kClaimLost.
  [[nodiscard]] Status why() const EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return {Kind::kClaimLost, why_.empty() ? "the claim ran out before it was renewed" : why_};
  }
  // BootTime::max(): for ever.
  [[nodiscard]] BootTime until() const noexcept { return until_; }

  // For whoever has the claim; one thread at a time. False: the fence was reached before.
  bool open_until(BootTime until) {
    if (moved_ && !open()) return false;
    moved_ = true;
    until_ = until;
    return true;
  }
  // For ever. The last reason counts.
  void close(const std::string& why) EXCLUDES(mutex_) {
    moved_ = true;
    until_ = BootTime::min();
    MutexLock lock(mutex_);
    why_ = why;
  }

 private:
  const Clock& clock_;
  std::atomic<BootTime> until_ = BootTime::min();
  bool moved_ = false;  // the owner's

  mutable Mutex mutex_;
  std::string why_ GUARDED_BY(mutex_);
};

}  // namespace upload
