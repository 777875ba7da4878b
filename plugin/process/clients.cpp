// SPDX-License-Identifier: BSD-3-Clause
//
// The processes of all disks' clients are in one table without locks, for the signal handler. A
// descriptor of a process stays that process's when its number is another's, and can be
// read from when the process has ended (pidfd_open(2)), also from one that nobody has waited for.
// A client that finds no room in the table is one whose process is not known.

#include "process/clients.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace upload {

namespace {

constexpr size_t kMostProcesses = 256;
constexpr int kFree = -1;
constexpr int kReserved = -2;

std::atomic<bool> end_noted = false;

}  // namespace

struct Clients::Process {
  std::atomic<int> descriptor = kFree;
  std::atomic<bool> had_ended = false;
};

namespace {

// In a function, as the type is the class's.
template <typename Process>
std::array<Process, kMostProcesses>& table() {
  static constinit std::array<Process, kMostProcesses> processes;
  return processes;
}

}  // namespace

Clients::~Clients() {
  for (const auto& [client, process] : connected_) forget(process);
}

Clients::Process* Clients::watch(pid_t process) {
  if (process <= 0) return nullptr;
  for (Process& each : table<Process>()) {
    int expected = kFree;
    if (!each.descriptor.compare_exchange_strong(expected, kReserved)) continue;
    each.had_ended = false;
    const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, process, 0));
    each.descriptor = descriptor >= 0 ? descriptor : kFree;
    return descriptor >= 0 ? &each : nullptr;
  }
  return nullptr;
}

void Clients::forget(Process* process) {
  if (process == nullptr) return;
  const int descriptor = process->descriptor.exchange(kReserved);
  close(descriptor);
  process->descriptor = kFree;
}

Clients::Id Clients::come(pid_t process) {
  MutexLock lock(mutex_);
  connected_[++last_] = watch(process);
  return last_;
}

void Clients::go(Id client) {
  MutexLock lock(mutex_);
  const auto found = connected_.find(client);
  if (found == connected_.end()) return;
  forget(found->second);
  connected_.erase(found);
}

bool Clients::any() {
  MutexLock lock(mutex_);
  return std::any_of(connected_.begin(), connected_.end(), [](const auto& client) {
    return client.second == nullptr || !client.second->had_ended;
  });
}

void Clients::note_the_end() noexcept {
  if (end_noted.exchange(true)) return;
  const int error = errno;
  for (Process& each : table<Process>()) {
    pollfd look = {each.descriptor, POLLIN, 0};
    if (look.fd >= 0 && poll(&look, 1, 0) == 1) each.had_ended = true;
  }
  errno = error;
}

}  // namespace upload
