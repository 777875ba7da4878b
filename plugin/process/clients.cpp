// SPDX-License-Identifier: BSD-3-Clause
//
// A descriptor of a process stays that process's when its number is another's. It can be read
// from when the process has ended (pidfd_open(2)); also from one that nobody has waited for.

#include "process/clients.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace upload {

namespace {

bool has_ended(int process) {
  pollfd look = {process, POLLIN, 0};
  return process >= 0 && poll(&look, 1, 0) == 1;
}

}  // namespace

Clients::~Clients() {
  for (const auto& [client, process] : connected_)
    if (process >= 0) close(process);
}

Clients::Id Clients::come(pid_t process) {
  const int descriptor = process > 0 ? static_cast<int>(syscall(SYS_pidfd_open, process, 0)) : -1;
  MutexLock lock(mutex_);
  connected_[++last_] = descriptor;
  return last_;
}

void Clients::go(Id client) {
  MutexLock lock(mutex_);
  const auto found = connected_.find(client);
  if (found == connected_.end()) return;
  if (found->second >= 0) close(found->second);
  connected_.erase(found);
}

bool Clients::any() {
  MutexLock lock(mutex_);
  return std::any_of(connected_.begin(), connected_.end(),
                     [](const auto& client) { return !has_ended(client.second); });
}

}  // namespace upload
