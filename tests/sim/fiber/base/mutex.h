// SPDX-License-Identifier: BSD-3-Clause
//
// base/mutex.h as the simulation has it: the same names and contracts, with
// fibers of one thread in place of threads. Each lock, unlock, wait and
// notification is a point where the scheduler may let another fiber run.

#pragma once

#include <chrono>

#include "base/thread_annotations.h"
#include "sim/scheduler.h"

namespace upload {

class CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  ~Mutex() { sim::require(!held_, "a mutex is destroyed while it is held"); }
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() ACQUIRE() NO_THREAD_SAFETY_ANALYSIS {
    sim::scheduler().yield("lock");
    take();
  }
  void unlock() RELEASE() NO_THREAD_SAFETY_ANALYSIS {
    sim::scheduler().before_unlock(*this);
    release();
    sim::scheduler().yield("unlock");
  }
  void assert_held() const ASSERT_CAPABILITY(this) {
    sim::require(held_, "a mutex is not held where it has to be");
  }

 private:
  friend class CondVar;
  void take() {
    while (held_) sim::scheduler().wait(waiters_, "a mutex");
    held_ = true;
  }
  void release() {
    sim::require(held_, "a mutex is unlocked that nobody holds");
    held_ = false;
    sim::scheduler().wake_one(waiters_);
  }

  bool held_ = false;
  sim::WaitList waiters_;
};

class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class CondVar {
 public:
  CondVar() = default;
  ~CondVar() {
    sim::require(waiters_.empty(), "a condition variable is destroyed under a waiter");
  }
  CondVar(const CondVar&) = delete;
  CondVar& operator=(const CondVar&) = delete;

  void notify_one() { sim::scheduler().wake_one(waiters_); }
  void notify_all() { sim::scheduler().wake_all(waiters_); }

  void wait(Mutex& mutex) REQUIRES(mutex) NO_THREAD_SAFETY_ANALYSIS {
    sim::scheduler().before_unlock(mutex);
    mutex.release();
    sim::scheduler().wait(waiters_, "a condition");
    mutex.take();
  }

  void wait_until(Mutex& mutex, sim::TimePoint when) REQUIRES(mutex) NO_THREAD_SAFETY_ANALYSIS {
    sim::scheduler().before_unlock(mutex);
    mutex.release();
    sim::scheduler().wait(waiters_, "a condition, for a time", when);
    mutex.take();
  }

 private:
  sim::WaitList waiters_;
};

}  // namespace upload
