// SPDX-License-Identifier: BSD-3-Clause
//
// Clients: which NBD clients of a disk are connected.
//
// nbdkit does not tell that a client has gone once it has been told to end itself. With --run the
// two come together: the command ends, with the client, and nbdkit is sent a signal at
// once. So a client on this host also counts as gone if its process had ended when the
// signal came.
//
// Thread safe.

#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <map>

#include "base/mutex.h"

namespace upload {

class Clients {
 public:
  using Id = size_t;

  Clients() = default;
  ~Clients();
  Clients(const Clients&) = delete;
  Clients& operator=(const Clients&) = delete;

  // `process`: the client's; 0 or less: not known.
  [[nodiscard]] Id come(pid_t process) EXCLUDES(mutex_);
  void go(Id client) EXCLUDES(mutex_);
  [[nodiscard]] bool any() EXCLUDES(mutex_);

  // The process has been told to end: sees which clients' processes have. The first call counts.
  // May be called by a signal handler.
  static void note_the_end() noexcept;

 private:
  struct Process;

  static Process* watch(pid_t process);
  static void forget(Process* process);

  Mutex mutex_;
  Id last_ GUARDED_BY(mutex_) = 0;
  // Those that are connected; null: its process is not known.
  std::map<Id, Process*> connected_ GUARDED_BY(mutex_);
};

}  // namespace upload
