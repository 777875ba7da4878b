// SPDX-License-Identifier: BSD-3-Clause
//
// Two phases: while the server is away it sleeps in short pieces until nbdkit is
// to end, since nothing but nbdkit's own sleep tells (nbdkit_nanosleep(3)), and that
// can't be woken by us; then it looks at the server several times a second.
//
// While all is well it does not use that sleep: it prints an error when nbdkit
// ends.

#include "base/shutdown_watch.h"

namespace upload {

namespace {

// nbdkit ends at once when it was asked to; otherwise (with --single) stop()
// waits for the rest of one of these.
constexpr Duration kPiece = std::chrono::milliseconds(500);
constexpr Duration kWellLook = std::chrono::seconds(1);
constexpr Duration kLook = std::chrono::milliseconds(100);

}  // namespace

ShutdownWatch::ShutdownWatch(Hooks hooks, Clock& clock)
    : hooks_(std::move(hooks)), clock_(clock), thread_([this] { run(); }) {}

ShutdownWatch::~ShutdownWatch() { stop(); }

void ShutdownWatch::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    stop_requested_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

bool ShutdownWatch::stopping() {
  MutexLock lock(mutex_);
  return stopping_;
}

// False: stop() has come first.
bool ShutdownWatch::wait_for_shutdown() {
  while (!stopping()) {
    if (!hooks_.is_away())
      pause(kWellLook);
    else if (hooks_.sleep_unless_ending(kPiece))
      return true;
  }
  return false;
}

void ShutdownWatch::pause(Duration time) {
  MutexLock lock(mutex_);
  const TimePoint until = clock_.now() + time;
  while (!stopping_ && clock_.now() < until) clock_.wait_until(stop_requested_, mutex_, until);
}

void ShutdownWatch::run() {
  if (!wait_for_shutdown()) return;
  TimePoint well = clock_.now();
  while (!stopping()) {
    const TimePoint now = clock_.now();
    if (!hooks_.is_away()) well = now;
    if (now - well >= kGiveUpAfter) {
      hooks_.give_up();
      well = now;
    }
    pause(kLook);
  }
}

}  // namespace upload
