// SPDX-License-Identifier: BSD-3-Clause
//
// Jobs are done in their order. What a job works on it shares with who waits for it, so
// that neither needs the other to be there.

#include "journal/spool.h"

#include <cstring>
#include <new>
#include <utility>

#include "base/format.h"
#include "base/process_stop.h"

namespace upload::journal {

namespace {

// Contents with their data.
struct Batch {
  explicit Batch(std::span<const SpoolContent> others) : contents(others.begin(), others.end()) {
    for (SpoolContent& content : contents) {
      if (content.data == nullptr) continue;
      const uint64_t length = content.row.range.length;
      data.push_back(std::make_unique_for_overwrite<std::byte[]>(length));
      memcpy(data.back().get(), content.data, length);
      content.data = data.back().get();
    }
  }
  std::vector<SpoolContent> contents;
  std::vector<std::unique_ptr<std::byte[]>> data;
  Status result;
};

}  // namespace

Spool::Spool(std::unique_ptr<SpoolPlace> place, std::unique_ptr<Store> store,
             std::vector<SpoolRow> rows, Clock& clock, Duration hang_limit)
    : place_(std::move(place)),
      store_(std::move(store)),
      rows_(std::move(rows)),
      clock_(clock),
      hang_limit_(hang_limit),
      thread_([this] { serve(); }) {}

Spool::~Spool() {
  {
    MutexLock lock(mutex_);
    jobs_.clear();  // nobody waits for them
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
    std::shared_ptr<Job> job;
    {
      MutexLock lock(mutex_);
      while (jobs_.empty() && !stopping_) work_.wait(mutex_);
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job->run(*store_);
    MutexLock lock(mutex_);
    job->done = true;
    job->finished.notify_one();
  }
}

void Spool::wait_for(Job& job) {
  TimePoint until = clock_.now() + hang_limit_;
  while (!job.done && failed_.ok() && clock_.now() < until) {
    clock_.wait_until(job.finished, mutex_, until);
    // The process was stopped: the disk gets another round.
    if (clock_.now() - until > kStopped) until = clock_.now() + hang_limit_;
  }
}

Status Spool::run(std::function<void(Store&)> work) {
  const auto job = std::make_shared<Job>();
  job->run = std::move(work);
  MutexLock lock(mutex_);
  if (!failed_.ok()) return failed_;
  jobs_.push_back(job);
  work_.notify_one();
  wait_for(*job);
  if (job->done) return {};
  if (failed_.ok())
    failed_ = {Kind::kSpool, format("the disk of the spool %s has not answered for %lld seconds",
                                    path().c_str(), seconds(hang_limit_))};
  // Those that have not begun never will.
  for (const auto& other : jobs_) other->finished.notify_one();
  jobs_.clear();
  return failed_;
}

Status Spool::append(std::span<const SpoolContent> contents) {
  std::shared_ptr<Batch> batch;
  try {
    batch = std::make_shared<Batch>(contents);
  } catch (const std::bad_alloc&) {
    return {Kind::kNoMemory, "out of memory for the spool " + path()};
  }
  const Status done =
      run([batch](Store& store) { batch->result = store.append(batch->contents); });
  return done.ok() ? batch->result : done;
}

Status Spool::drop(std::span<const uint64_t> ids) {
  if (ids.empty()) return {};
  struct Drop {
    std::vector<uint64_t> ids;
    Status result;
  };
  const auto drop = std::make_shared<Drop>(Drop{{ids.begin(), ids.end()}, {}});
  const Status done = run([drop](Store& store) { drop->result = store.drop(drop->ids); });
  return done.ok() ? drop->result : done;
}

Result<std::unique_ptr<std::byte[]>> Spool::read(uint64_t id, uint64_t skip, uint64_t length) {
  struct Read {
    std::unique_ptr<std::byte[]> data;
    Result<bool> result = false;
  };
  const auto read = std::make_shared<Read>();
  try {
    read->data = std::make_unique_for_overwrite<std::byte[]>(length);
  } catch (const std::bad_alloc&) {
    return Status(Kind::kNoMemory, "out of memory for the spool " + path());
  }
  const Status done =
      run([=](Store& store) { read->result = store.read(id, skip, read->data.get(), length); });
  if (!done.ok()) return done;
  if (!read->result.ok()) return read->result.status();
  if (!read->result.value()) read->data.reset();
  return std::move(read->data);
}

Status Spool::shrink() {
  const auto result = std::make_shared<Status>();
  const Status done = run([result](Store& store) { *result = store.shrink(); });
  return done.ok() ? *result : done;
}

Status Spool::check() {
  const auto result = std::make_shared<Status>();
  const Status done = run([result](Store& store) { *result = store.check(); });
  return done.ok() ? *result : done;
}

}  // namespace upload::journal
