// SPDX-License-Identifier: BSD-3-Clause
//
// Applies changes long after the connection that brought them has gone.
//
// A request that a client has given up may still travel through proxies, queues and
// storage, and arrive after the client's next attempt, or after newer data. This thread
// plays that part: it holds what has been read and applies it when its time has come.
//
// Invariant: work is done in the order of its due time and never after stop() returned.
//
// Threads: one, plus any that schedule. The work runs without the lock held. Errors: none
// of its own. It does not know what it applies.

#include "late_applier.h"

#include <utility>

namespace upload::testserver {

void LateApplier::start() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = false;
  }
  thread_ = std::thread([this] { run(); });
}

void LateApplier::stop() {
  if (!thread_.joinable()) {
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    work_.clear();
  }
  changed_.notify_all();
  thread_.join();
}

void LateApplier::schedule(std::chrono::milliseconds after, std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      return;
    }
    work_.emplace(Clock::now() + after, std::move(work));
  }
  changed_.notify_all();
}

void LateApplier::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (work_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const auto due = work_.begin()->first;
    if (Clock::now() < due) {
      changed_.wait_until(lock, due);
      continue;
    }
    const auto work = std::move(work_.begin()->second);
    work_.erase(work_.begin());
    lock.unlock();
    work();
    lock.lock();
  }
}

}  // namespace upload::testserver
