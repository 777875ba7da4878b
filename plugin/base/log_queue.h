// SPDX-License-Identifier: BSD-3-Clause
//
// LogQueue: lines on their way to a standard error that may be full, and that nobody may
// ever read. A write to such a pipe waits for its reader (pipe(7)), so lines are written
// by a thread of their own, and whoever has something to say only leaves it here.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/thread.h"

namespace upload {

class LogQueue {
 public:
  enum class Level { kDebug, kNotice, kWarning, kError };

  struct Output {
    // Whether a line would be written at once. May wait for that, but only for a moment.
    std::function<bool()> ready;
    // Writes a line, which has no newline.
    std::function<void(Level, const char*)> write;
  };

  // What waits: so many lines, each cut to so many bytes. A cut line and what is put before
  // it are together less than the 4096 bytes that a pipe takes whole (PIPE_BUF, pipe(7)).
  static constexpr size_t kMaxLines = 1000;
  static constexpr size_t kMaxBytes = 3000;
  // Who has read no line for so long does not read.
  static constexpr Duration kReaderTimeout = std::chrono::seconds(2);

  // `clock` outlives the queue.
  LogQueue(Output output, Clock& clock);
  // stop(), and waits for the thread however long it takes.
  ~LogQueue();
  LogQueue(const LogQueue&) = delete;
  LogQueue& operator=(const LogQueue&) = delete;

  // Leaves a line to the thread, and waits for nothing; without a thread it writes the line
  // itself. Lines that find no room are counted, and a line in their place says how many
  // they were. Thread safe.
  void add(Level level, std::string_view line) noexcept EXCLUDES(mutex_);

  // Starts the thread: call it once, after the last fork. Throws std::system_error.
  void start() EXCLUDES(mutex_);
  // Waits until everything is written. False: nothing has been for kReaderTimeout. Thread safe.
  bool drain() EXCLUDES(mutex_);
  // drain(), and ends the thread; what is not written then never will be. The thread may
  // not end, if somebody else has filled standard error in front of it: then the queue must
  // not be destroyed. Repeatable.
  void stop() EXCLUDES(mutex_);

 private:
  struct Line {
    Level level = Level::kDebug;
    std::string text;
  };
  // Who writes a line: whoever has it, the thread, or nobody any more.
  enum class State { kDirect, kQueued, kEnding, kEnded };

  [[nodiscard]] static Line about_lost(uint64_t lines);
  void put(Line line) EXCLUDES(mutex_);
  void run() EXCLUDES(mutex_);
  [[nodiscard]] bool await_line() EXCLUDES(mutex_);
  [[nodiscard]] Line take() EXCLUDES(mutex_);
  void push(Line line) REQUIRES(mutex_);
  [[nodiscard]] bool idle() const REQUIRES(mutex_) {
    return count_ == 0 && lost_ == 0 && !writing_;
  }

  const Output output_;
  Clock& clock_;

  Mutex mutex_;
  CondVar work_;     // for the thread
  CondVar written_;  // for those who wait for it
  State state_ GUARDED_BY(mutex_) = State::kDirect;
  // A ring; its memory is there before memory is short.
  std::vector<Line> ring_ GUARDED_BY(mutex_);
  size_t first_ GUARDED_BY(mutex_) = 0;
  size_t count_ GUARDED_BY(mutex_) = 0;
  uint64_t lost_ GUARDED_BY(mutex_) = 0;  // since the last line of the ring came
  bool writing_ GUARDED_BY(mutex_) = false;
  uint64_t lines_written_ GUARDED_BY(mutex_) = 0;

  Thread thread_;
};

}  // namespace upload
