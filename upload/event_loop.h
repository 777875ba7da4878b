// SPDX-License-Identifier: BSD-3-Clause
//
// EventLoop: the one place where nbdupload waits: for file descriptors, signals and time.
//
// Whoever needs something to happen asks the loop to run until it has happened; meanwhile
// all that was registered is served. So what a program says is shown while another one is
// waited for, and a signal puts an end to every wait. One thread.

#pragma once

#include <chrono>
#include <csignal>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "file_descriptor.h"

namespace nbdupload {

class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using Handler = std::function<void()>;

  // Blocks SIGHUP, SIGINT, SIGQUIT and SIGTERM, but for those that are ignored, and takes
  // them from now on. SIGPIPE is ignored, and SIGCHLD has its default action.
  EventLoop();

  // Calls `readable` whenever `fd` can be read or is at its end, until unwatch().
  void watch(int fd, Handler readable);
  void unwatch(int fd);

  // Calls `tick` about so often while the loop runs; an empty one ends that.
  void set_ticker(std::chrono::milliseconds interval, Handler tick);

  enum class End { kDone, kLate, kStopped };

  // Serves events until `done`, the deadline, or a signal that is to end nbdupload.
  [[nodiscard]] End run(const std::function<bool()>& done,
                        std::optional<Clock::time_point> deadline = std::nullopt);

  // The signal that is to end nbdupload; 0: there is none.
  [[nodiscard]] int stop_signal() const { return stop_signal_; }
  // From now on signals are taken and ignored: what is left to do is to clean up.
  void ignore_signals();

  // The signals that were blocked before; for what nbdupload starts.
  [[nodiscard]] const sigset_t& original_mask() const { return original_mask_; }

 private:
  void take_signal();
  void wait(std::optional<Clock::time_point> deadline);

  sigset_t original_mask_{};
  FileDescriptor signals_;
  int stop_signal_ = 0;
  bool ignoring_ = false;
  // Shared, so that a handler may unwatch its own descriptor.
  std::map<int, std::shared_ptr<Handler>> watched_;
  std::chrono::milliseconds interval_{0};
  Clock::time_point next_tick_;
  Handler tick_;
};

}  // namespace nbdupload
