// SPDX-License-Identifier: BSD-3-Clause
//
// Keeper: the thread that keeps idle connections, the tickets of the volumes
// that share them, and their login alive.
//
// Servers and proxies close connections that are idle, and a dirty connection
// that is closed can't be had back. So a connection that has been idle for
// the idle time-out is leased, for nobody else to use meanwhile, and each volume
// that is dirty on it flushes; if none is, the one whose ticket was unused for longest.
//
// Tickets expire, too, and some wait hours for the copy of their disk to begin. So a
// volume whose ticket was not used for the idle time-out flushes on any connection. Together
// that is at most one request in each idle time-out for each ticket, and one for each pair of
// a volume and a connection that it is dirty on.
//
// One request at a time, so that the other connections stay free for real work. But a
// volume whose server does not answer must not make the others' connections and tickets die
// (invariant 11): a request that lasts is left to itself, and the next is begun beside it;
// not for the same volume, though.

#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "login/session.h"
#include "upstream/pool.h"

namespace upload::upstream {

class Keeper {
 public:
  // Starts the thread. `session`: may be null. `pool` and `clock` outlive the keeper.
  Keeper(Pool& pool, std::shared_ptr<login::Session> session, Duration idle_timeout,
         Clock& clock);
  // request_stop() and join()
  ~Keeper();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  // Ends the thread, as soon as requests of its own have ended: aborting those
  // is the pool's to do. Any thread but the keeper's, more than once.
  void request_stop() EXCLUDES(mutex_);
  void join();

 private:
  struct Job {
    Thread thread;
    bool done = false;
  };
  struct Ticket {
    TimePoint tried = TimePoint::min();  // when the keeper last made a request with it
    bool busy = false;                   // it is making one
  };

  void run() EXCLUDES(mutex_);
  // Begins what is due. Returns when to look again.
  TimePoint keep_due_alive() EXCLUDES(mutex_);
  void keep_connection(Lease& lease) EXCLUDES(mutex_);
  void keep_ticket(Share& share) EXCLUDES(mutex_);
  bool keep_with(Share& share, Lease& lease) EXCLUDES(mutex_);
  Share* longest_unused() EXCLUDES(mutex_);
  [[nodiscard]] bool busy(const Share& share) EXCLUDES(mutex_);
  [[nodiscard]] TimePoint used(const Share& share) EXCLUDES(mutex_);
  bool begin(const Share& share) EXCLUDES(mutex_);
  void end(const Share& share) EXCLUDES(mutex_);
  void start(std::function<void()> body) EXCLUDES(mutex_);
  void join_jobs(bool all) EXCLUDES(mutex_);
  [[nodiscard]] bool stopping() EXCLUDES(mutex_);
  [[nodiscard]] Duration due_after() const;

  Pool& pool_;
  const std::shared_ptr<login::Session> session_;
  const Duration idle_timeout_;
  // A request that takes longer lasts.
  const Duration patience_;
  Clock& clock_;

  Mutex mutex_;
  CondVar changed_;  // stop_, or a job is done
  bool stop_ GUARDED_BY(mutex_) = false;
  std::list<Job> jobs_ GUARDED_BY(mutex_);
  std::map<const Share*, Ticket> tickets_ GUARDED_BY(mutex_);

  Thread thread_;  // last: it uses the others
};

}  // namespace upload::upstream
