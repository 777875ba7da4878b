// SPDX-License-Identifier: BSD-3-Clause
//
// A write beyond the process's limit on the size of a file (RLIMIT_FSIZE) sends SIGXFSZ to
// the thread that writes, which ends the process; with the signal blocked the write fails
// with EFBIG (write(2)). No other thread and no program that nbdkit starts is touched.

#pragma once

#include <csignal>
#include <ctime>

namespace upload {

// Whether a write of this thread has met the limit since it was last asked, and since there
// is a FileSizeLimitFails.
[[nodiscard]] inline bool file_size_limit_was_met() {
  sigset_t signal;
  sigemptyset(&signal);
  sigaddset(&signal, SIGXFSZ);
  const timespec now = {};
  return sigtimedwait(&signal, nullptr, &now) == SIGXFSZ;
}

// While it lives, writes of this thread beyond the limit fail. May be nested.
class FileSizeLimitFails {
 public:
  FileSizeLimitFails() {
    sigset_t signal;
    sigemptyset(&signal);
    sigaddset(&signal, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signal, &before_);
  }
  // The signal has been sent all the same, and must not arrive once it may.
  ~FileSizeLimitFails() {
    if (sigismember(&before_, SIGXFSZ) == 1) return;
    while (file_size_limit_was_met()) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  FileSizeLimitFails(const FileSizeLimitFails&) = delete;
  FileSizeLimitFails& operator=(const FileSizeLimitFails&) = delete;

 private:
  sigset_t before_;
};

}  // namespace upload
