// SPDX-License-Identifier: BSD-3-Clause
//
// Jobs belong to the threads that wait for them, and are done in their order.

#include "journal/spool.h"

#include <cassert>
#include <utility>

namespace upload::journal {

Spool::Spool(std::unique_ptr<SpoolPlace> place, std::unique_ptr<Store> store,
             std::vector<SpoolRow> rows)
    : place_(std::move(place)),
      store_(std::move(store)),
      rows_(std::move(rows)),
      thread_([this] { serve(); }) {}

Spool::~Spool() {
  {
    MutexLock lock(mutex_);
    assert(jobs_.empty());
    stopping_ = true;
    work_.notify_one();
  }
  thread_.join();
  const bool remove = store_->empty() && !keep_;
  store_.reset();
  if (remove) place_->remove();
}

void Spool::serve() {
  for (;;) {
    Job* job = nullptr;
    {
      MutexLock lock(mutex_);
      while (jobs_.empty() && !stopping_) work_.wait(mutex_);
      if (jobs_.empty()) return;
      job = jobs_.front();
      jobs_.pop_front();
    }
    job->run(*store_);
    MutexLock lock(mutex_);
    job->done = true;
    // Under the mutex: once it is free the job may cease to exist.
    job->woken.notify_one();
  }
}

void Spool::run(std::function<void(Store&)> work) {
  Job job;
  job.run = std::move(work);
  MutexLock lock(mutex_);
  jobs_.push_back(&job);
  work_.notify_one();
  while (!job.done) job.woken.wait(mutex_);
}

Status Spool::append(std::span<const SpoolContent> contents) {
  Status status;
  run([&](Store& store) { status = store.append(contents); });
  return status;
}

Status Spool::drop(std::span<const uint64_t> ids) {
  Status status;
  if (ids.empty()) return status;
  run([&](Store& store) { status = store.drop(ids); });
  return status;
}

Result<bool> Spool::read(uint64_t id, uint64_t skip, void* buffer, uint64_t length) {
  Result<bool> there = false;
  run([&](Store& store) { there = store.read(id, skip, buffer, length); });
  return there;
}

Status Spool::shrink() {
  Status status;
  run([&](Store& store) { status = store.shrink(); });
  return status;
}

}  // namespace upload::journal
