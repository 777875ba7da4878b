// SPDX-License-Identifier: BSD-3-Clause
//
// Each thread asks for a job, does it, and asks again.

#include "volume/senders.h"

#include <cassert>
#include <exception>

#include "base/log.h"

namespace upload::volume {

Senders::Senders(Core& core, CondVar& work, JobSource& source, unsigned count)
    : core_(core), work_(work), source_(source) {
  threads_.reserve(count);
  try {
    while (threads_.size() < count) threads_.emplace_back([this] { run(); });
  } catch (const std::exception& error) {
    if (threads_.empty()) throw;
    UPLOAD_DEBUG(journal, "%zu of %u threads: %s", threads_.size(), count, error.what());
  }
}

Senders::~Senders() {
  for (const Thread& thread : threads_) assert(!thread.joinable());
}

void Senders::join() {
  for (Thread& thread : threads_)
    if (thread.joinable()) thread.join();
}

// Whoever finds a job wakes the next: work is told of to one only.
void Senders::run() {
  for (;;) {
    Job job;
    {
      MutexLock lock(core_.mutex);
      while (!core_.health.stopping()) {
        TimePoint not_before = TimePoint::max();
        job = source_.next_job(not_before);
        if (job) break;
        core_.wait_for(work_, not_before);
      }
      if (!job || source_.has_another_job()) work_.notify_one();
    }
    if (!job) return;
    job();
  }
}

}  // namespace upload::volume
