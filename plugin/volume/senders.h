// SPDX-License-Identifier: BSD-3-Clause
//
// Senders: some threads that do a volume's work in the background, as jobs. What is to be
// done is the JobSource's to say; how many do it is a number.
//
// Thread safe.

#pragma once

#include <functional>
#include <vector>

#include "base/clock.h"
#include "base/thread.h"
#include "volume/core.h"

namespace upload::volume {

using Job = std::function<void()>;

class JobSource {
 public:
  virtual ~JobSource() = default;
  // Called with the core's mutex held. A job to be done now, without the mutex; null: there
  // is none before `not_before`, or before the condition variable is notified.
  virtual Job next_job(TimePoint& not_before) = 0;
  // Likewise, after that: another thread may find a job, too.
  virtual bool has_another_job() { return true; }
};

class Senders {
 public:
  // All outlive the senders. `work` is notified when there may be a job. Throws when there
  // is no first thread; fewer than `count` are enough.
  Senders(Core& core, CondVar& work, JobSource& source, unsigned count);
  // After join().
  ~Senders();
  Senders(const Senders&) = delete;
  Senders& operator=(const Senders&) = delete;

  // Once the volume stops, they end with the job that each is at.
  void join();

 private:
  void run() EXCLUDES(core_.mutex);

  Core& core_;
  CondVar& work_;
  JobSource& source_;
  std::vector<Thread> threads_;
};

}  // namespace upload::volume
