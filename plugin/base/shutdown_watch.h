// SPDX-License-Identifier: BSD-3-Clause
//
// ShutdownWatch: the thread that notices when nbdkit has been asked to end
// while the server does not answer.
//
// nbdkit ends when every request has, and a request may wait for the server for
// as long as retry-time. So once nbdkit is to end and the server has been
// away for a few seconds, what waits is told to give up.
//
// The methods belong to one thread.

#pragma once

#include <functional>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/thread.h"

namespace upload {

class ShutdownWatch {
 public:
  // How long the server may be away once nbdkit is to end.
  static constexpr Duration kGiveUpAfter = std::chrono::seconds(3);

  struct Hooks {
    // Sleeps for so long at most. True: nbdkit is to end; returns soon then.
    std::function<bool(Duration)> sleep_unless_ending;
    // Requests wait for a server that does not answer, and have not been told to give up.
    std::function<bool()> is_away;
    // Makes them fail.
    std::function<void()> give_up;
  };

  // Starts the thread. `clock` outlives the watch.
  ShutdownWatch(Hooks hooks, Clock& clock);
  // stop()
  ~ShutdownWatch();
  ShutdownWatch(const ShutdownWatch&) = delete;
  ShutdownWatch& operator=(const ShutdownWatch&) = delete;

  // Ends the thread. Repeatable.
  void stop() EXCLUDES(mutex_);

 private:
  void run() EXCLUDES(mutex_);
  bool wait_for_shutdown() EXCLUDES(mutex_);
  [[nodiscard]] bool stopping() EXCLUDES(mutex_);
  void pause(Duration time) EXCLUDES(mutex_);

  const Hooks hooks_;
  Clock& clock_;

  Mutex mutex_;
  CondVar stop_requested_;
  bool stopping_ GUARDED_BY(mutex_) = false;

  Thread thread_;  // last: it uses the others
};

}  // namespace upload
