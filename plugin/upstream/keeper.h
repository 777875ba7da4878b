// SPDX-License-Identifier: BSD-3-Clause
//
// Keeper: the thread that keeps idle connections, and the tickets of their
// clients, alive.
//
// Servers and proxies close connections that are idle, and a dirty connection
// that is closed can't be had back. So a connection that has been idle for
// the idle time-out is leased, for nobody else to use meanwhile, and every
// client sends a request on it. One connection at a time: the others stay
// free for real work. When there is no connection at all one is opened, since
// tickets expire too.

#pragma once

#include "base/clock.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "upstream/pool.h"

namespace upload::upstream {

class Keeper {
 public:
  // Starts the thread. `pool` and `clock` outlive the keeper.
  Keeper(Pool& pool, Duration idle_timeout, Clock& clock);
  // stop()
  ~Keeper();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  // Ends the thread, as soon as a request of its own has ended: aborting that
  // is the pool's to do. Any thread but the keeper's, more than once.
  void request_stop() EXCLUDES(mutex_);
  void join();

 private:
  void run() EXCLUDES(mutex_);
  // Serves connections that are due. Returns when to look again.
  TimePoint keep_due_alive();
  [[nodiscard]] Duration due_after() const;

  Pool& pool_;
  const Duration idle_timeout_;
  Clock& clock_;

  Mutex mutex_;
  CondVar stop_requested_;
  bool stop_ GUARDED_BY(mutex_) = false;

  Thread thread_;  // last: it uses the others
};

}  // namespace upload::upstream
