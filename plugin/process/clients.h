// SPDX-License-Identifier: BSD-3-Clause
//
// Clients: which NBD clients of a disk are connected.
//
// nbdkit does not tell that a client has gone when it is itself just being ended, as with --run:
// the client ends, and nbdkit is sent a signal at once. So a client on the same host also counts
// as gone when its process has ended.
//
// Thread safe.

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>

#include "base/mutex.h"

namespace upload {

class Clients {
 public:
  using Id = uint64_t;

  Clients() = default;
  ~Clients();
  Clients(const Clients&) = delete;
  Clients& operator=(const Clients&) = delete;

  // `process`: the client's; 0 or less: not known.
  [[nodiscard]] Id come(pid_t process) EXCLUDES(mutex_);
  void go(Id client) EXCLUDES(mutex_);
  [[nodiscard]] bool any() EXCLUDES(mutex_);

 private:
  Mutex mutex_;
  Id last_ GUARDED_BY(mutex_) = 0;
  // A descriptor of its process (pidfd_open(2)); negative: there is none.
  std::map<Id, int> connected_ GUARDED_BY(mutex_);
};

}  // namespace upload
