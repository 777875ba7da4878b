// SPDX-License-Identifier: BSD-3-Clause
//
// poll(2) over what is watched, and a signalfd(2). The time to wait is that until the
// deadline or the next tick, so nothing is asked again and again.

#include "event_loop.h"

#include <poll.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace nbdupload {

namespace {

// In milliseconds; then the time is looked at again.
constexpr int64_t kLongestWait = 3600000;

bool is_ignored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

EventLoop::EventLoop() {
  sigset_t taken;
  sigemptyset(&taken);
  // What nohup(1) or a shell's background job ignores stays ignored. A blocked signal
  // would be seen all the same.
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM})
    if (!is_ignored(signal)) sigaddset(&taken, signal);
  sigprocmask(SIG_BLOCK, &taken, &original_mask_);
  signals_ = FileDescriptor(signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK));
  signal(SIGPIPE, SIG_IGN);
  // If it were ignored, as it may be inherited, exit statuses would be lost.
  signal(SIGCHLD, SIG_DFL);
  watch(signals_.get(), [this] { take_signal(); });
}

void EventLoop::watch(int fd, Handler readable) {
  watched_[fd] = std::make_shared<Handler>(std::move(readable));
}

void EventLoop::unwatch(int fd) { watched_.erase(fd); }

void EventLoop::set_ticker(std::chrono::milliseconds interval, Handler tick) {
  interval_ = interval;
  tick_ = std::move(tick);
  next_tick_ = Clock::now() + interval;
}

EventLoop::End EventLoop::run(const std::function<bool()>& done,
                              std::optional<Clock::time_point> deadline) {
  for (;;) {
    if (stop_signal_ != 0 && !ignoring_) return End::kStopped;
    if (done()) return End::kDone;
    if (deadline && Clock::now() >= *deadline) return End::kLate;
    wait(deadline);
  }
}

void EventLoop::wait(std::optional<Clock::time_point> deadline) {
  if (tick_) deadline = deadline ? std::min(*deadline, next_tick_) : next_tick_;
  int timeout = -1;
  if (deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now());
    timeout = static_cast<int>(std::clamp<int64_t>(left.count(), 0, kLongestWait));
  }
  std::vector<pollfd> fds;
  for (const auto& [fd, handler] : watched_) fds.push_back({fd, POLLIN, 0});
  if (poll(fds.data(), fds.size(), timeout) > 0)
    for (const pollfd& fd : fds) {
      // A handler before this one may have unwatched it.
      const auto found = watched_.find(fd.fd);
      if (fd.revents == 0 || found == watched_.end()) continue;
      const std::shared_ptr<Handler> handler = found->second;
      (*handler)();
    }
  if (tick_ && Clock::now() >= next_tick_) {
    next_tick_ = Clock::now() + interval_;
    tick_();
  }
}

void EventLoop::take_signal() {
  signalfd_siginfo info{};
  while (read(signals_.get(), &info, sizeof info) == sizeof info)
    if (stop_signal_ == 0) stop_signal_ = static_cast<int>(info.ssi_signo);
}

void EventLoop::ignore_signals() { ignoring_ = true; }

}  // namespace nbdupload
