// SPDX-License-Identifier: BSD-3-Clause
//
// A handler in front of nbdkit's, which sets a flag, looks which clients are there, and calls
// nbdkit's.

#include "ending.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>

#include "process/clients.h"

namespace upload {

namespace {

// nbdkit(1), "SIGNALS".
constexpr std::array<int, 4> kSignals = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};

static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");
std::atomic<bool> signalled = false;
// Constant once the handlers are there; the same indices as kSignals.
std::array<struct sigaction, kSignals.size()> nbdkits = {};

extern "C" void on_signal(int number, siginfo_t* info, void* context) {
  signalled = true;
  upload::Clients::note_the_end();
  for (size_t i = 0; i < kSignals.size(); ++i) {
    if (kSignals[i] != number) continue;
    if ((nbdkits[i].sa_flags & SA_SIGINFO) != 0)
      nbdkits[i].sa_sigaction(number, info, context);
    else
      nbdkits[i].sa_handler(number);
  }
}

}  // namespace

bool standard_error_takes_a_line(int patience_ms) {
  pollfd fd = {STDERR_FILENO, POLLOUT, 0};
  return poll(&fd, 1, patience_ms) > 0;
}

void notice_ending_signals() {
  for (size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction& theirs = nbdkits[i];
    if (sigaction(kSignals[i], nullptr, &theirs) != 0) continue;
    if ((theirs.sa_flags & SA_SIGINFO) == 0 &&
        (theirs.sa_handler == SIG_DFL || theirs.sa_handler == SIG_IGN))
      continue;
    struct sigaction ours = theirs;
    ours.sa_flags |= SA_SIGINFO;
    ours.sa_sigaction = on_signal;
    sigaction(kSignals[i], &ours, nullptr);
  }
}

bool ending_signal_has_come() { return signalled; }

}  // namespace upload
