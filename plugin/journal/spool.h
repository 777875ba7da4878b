// SPDX-License-Identifier: BSD-3-Clause
//
// Spool: the thread that owns a Store. Whoever wants something of the
// store waits for it, holding no mutex; so no more jobs wait than there are
// threads.
//
// A disk that hangs keeps nobody for longer than its limit: then the spool has
// failed, like a store that has, and says so at once from then on. The thread may still
// be in a call of the store: what it works on is its own, and whatever it does is not
// looked at any more.
//
// Thread safe.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "base/thread.h"
#include "journal/store.h"

namespace upload::journal {

class Spool {
 public:
  // Worth one transaction, in bytes: enough that syncing does not matter.
  static constexpr uint64_t kMostAppended = uint64_t{16} << 20;

  // Starts the thread. `rows` are those of the store. The clock outlives the spool.
  Spool(std::unique_ptr<SpoolPlace> place, std::unique_ptr<Store> store,
        std::vector<SpoolRow> rows, Clock& clock, Duration hang_limit);
  // After the last call of the others. Waits for the store, however long it hangs.
  // Removes it if it is empty.
  ~Spool();
  // Does not: that it is there tells the next process that requests of this
  // one may still be at work in the server.
  void keep() { keep_ = true; }

  [[nodiscard]] const std::string& path() const { return place_->path(); }
  // What was in the file at the start. To be taken once.
  [[nodiscard]] std::vector<SpoolRow> take_rows() { return std::move(rows_); }

  // As Store's; Kind::kSpool too: it has hung.
  Status append(std::span<const SpoolContent> contents) EXCLUDES(mutex_);
  Status drop(std::span<const uint64_t> ids) EXCLUDES(mutex_);
  // Content of its own; null: there is no such row.
  Result<std::unique_ptr<std::byte[]>> read(uint64_t id, uint64_t skip, uint64_t length)
      EXCLUDES(mutex_);
  Status shrink() EXCLUDES(mutex_);
  Status check() EXCLUDES(mutex_);

 private:
  struct Job {
    std::function<void(Store&)> run;
    bool done = false;
    CondVar finished;
  };
  // Has the thread do it. `work` owns what it uses: it may be done later than anybody
  // waits. An error: it was not done in time, and may yet be.
  Status run(std::function<void(Store&)> work) EXCLUDES(mutex_);
  void wait_for(Job& job) REQUIRES(mutex_);
  void serve() EXCLUDES(mutex_);

  const std::unique_ptr<SpoolPlace> place_;
  // The thread's, then the destructor's.
  std::unique_ptr<Store> store_;
  std::vector<SpoolRow> rows_;
  std::atomic<bool> keep_ = false;
  Clock& clock_;
  const Duration hang_limit_;

  Mutex mutex_;
  std::deque<std::shared_ptr<Job>> jobs_ GUARDED_BY(mutex_);
  Status failed_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  CondVar work_;

  Thread thread_;  // last: it uses the others
};

}  // namespace upload::journal
