// SPDX-License-Identifier: BSD-3-Clause
//
// MetricsPublisher: the thread that writes how the process is doing, at the start, every ten
// seconds, and at the end.
//
// The methods belong to one thread.

#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "base/thread.h"

namespace upload {

class MetricsPublisher {
 public:
  static constexpr Duration kEvery = std::chrono::seconds(10);
  // A file system that takes longer for the last figures hangs.
  static constexpr Duration kLongestEnd = std::chrono::seconds(2);

  struct Hooks {
    // How the process is doing. Called by the thread, never once stop() has returned; waits for
    // nothing that lasts.
    std::function<std::string()> collect;
    // Writes what was collected; may hang.
    std::function<Status(const std::string&)> write;
  };

  // `clock` outlives the publisher.
  MetricsPublisher(Hooks hooks, Clock& clock) : hooks_(std::move(hooks)), clock_(clock) {}
  // After stop(), if that was true, or without start().
  ~MetricsPublisher() = default;
  MetricsPublisher(const MetricsPublisher&) = delete;
  MetricsPublisher& operator=(const MetricsPublisher&) = delete;

  // Starts the thread: call it once, after the last fork. Throws std::system_error.
  void start();
  // Has the thread write a last time and end. False: the file system hangs, and the thread with
  // it, so the publisher must not be destroyed; nothing is collected any more. Repeatable.
  bool stop() EXCLUDES(mutex_);

 private:
  enum class Round { kOrdinary, kLast };

  [[nodiscard]] bool await_end() EXCLUDES(mutex_);
  void run() noexcept EXCLUDES(mutex_);
  [[nodiscard]] std::optional<Round> begin_round() EXCLUDES(mutex_);
  void publish() EXCLUDES(mutex_);
  // Less, when the thread is to end.
  void wait_until(TimePoint when) EXCLUDES(mutex_);

  const Hooks hooks_;
  Clock& clock_;
  bool warned_ = false;  // the thread's

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool collecting_ GUARDED_BY(mutex_) = false;
  bool given_up_ GUARDED_BY(mutex_) = false;  // nobody waits for the thread any more
  bool ended_ GUARDED_BY(mutex_) = false;

  Thread thread_;
};

}  // namespace upload
