// SPDX-License-Identifier: BSD-3-Clause
//
// A ring of lines, and the thread that writes them in their order.
//
// The thread asks first whether standard error takes a line, and only then writes: so it
// waits without the lock that stdio has for a stream, which others need, exit(3) among
// them since glibc 2.37. Between the question and the write somebody else may fill the
// pipe; then the thread hangs in the write, and stop() leaves it behind.
//
// What is lost when the process crashes is what was said in the moment before.

#include "base/log_queue.h"

#include <new>
#include <utility>

#include "base/file_size_limit.h"
#include "base/format.h"
#include "base/process_stop.h"

namespace upload {

LogQueue::Line LogQueue::about_lost(uint64_t lines) {
  return {Level::kWarning, format("%llu lines were lost, since nobody read standard error",
                                  static_cast<unsigned long long>(lines))};
}

LogQueue::LogQueue(Output output, Clock& clock)
    : output_(std::move(output)), clock_(clock), ring_(kMaxLines) {}

LogQueue::~LogQueue() {
  stop();
  if (thread_.joinable()) thread_.join();
}

void LogQueue::add(Level level, std::string_view text) noexcept {
  try {
    Line line{level, std::string(text.substr(0, kMaxBytes))};
    if (text.size() > kMaxBytes) line.text.replace(kMaxBytes - 3, 3, "...");
    put(std::move(line));
  } catch (const std::bad_alloc&) {
    MutexLock lock(mutex_);
    if (state_ == State::kQueued) ++lost_;
    work_.notify_one();
  }
}

void LogQueue::put(Line line) {
  {
    MutexLock lock(mutex_);
    if (state_ == State::kQueued) {
      const size_t places = lost_ > 0 ? 2 : 1;
      if (count_ + places > ring_.size()) {
        ++lost_;
        return;
      }
      if (lost_ > 0) push(about_lost(std::exchange(lost_, 0)));
      push(std::move(line));
      work_.notify_one();
      return;
    }
    if (state_ != State::kDirect) return;
  }
  output_.write(line.level, line.text.c_str());
}

void LogQueue::push(Line line) {
  ring_[(first_ + count_) % ring_.size()] = std::move(line);
  ++count_;
}

void LogQueue::start() {
  MutexLock lock(mutex_);
  thread_ = Thread([this] { run(); });
  state_ = State::kQueued;
}

bool LogQueue::drain() {
  MutexLock lock(mutex_);
  LastLook last_look;
  uint64_t seen = lines_written_;
  TimePoint since = clock_.now();
  while (!idle()) {
    const TimePoint now = clock_.now();
    if (std::exchange(seen, lines_written_) != lines_written_) since = now;
    const auto until = last_look.wait_until(since + kReaderTimeout, now);
    if (!until) return false;
    clock_.wait_until(written_, mutex_, *until);
  }
  return true;
}

void LogQueue::stop() {
  if (!thread_.joinable()) return;
  const bool drained = drain();
  {
    MutexLock lock(mutex_);
    if (state_ == State::kQueued) state_ = State::kEnding;
    work_.notify_one();
    LastLook last_look;
    const TimePoint give_up = clock_.now() + kReaderTimeout;
    while (state_ != State::kEnded) {
      const auto until = last_look.wait_until(give_up, clock_.now());
      if (!until) return;
      clock_.wait_until(written_, mutex_, *until);
    }
    if (drained) state_ = State::kDirect;
  }
  thread_.join();
}

void LogQueue::run() {
  // Standard error may be a file that has met a limit (RLIMIT_FSIZE): then a line is lost,
  // and the process is not ended.
  const FileSizeLimitFails limit_fails;
  while (await_line()) {
    if (!output_.ready()) continue;
    const Line line = take();
    output_.write(line.level, line.text.c_str());
    MutexLock lock(mutex_);
    writing_ = false;
    ++lines_written_;
    written_.notify_all();
  }
  MutexLock lock(mutex_);
  state_ = State::kEnded;
  written_.notify_all();
}

// False: the thread is to end.
bool LogQueue::await_line() {
  MutexLock lock(mutex_);
  while (state_ == State::kQueued && idle()) work_.wait(mutex_);
  return state_ == State::kQueued;
}

LogQueue::Line LogQueue::take() {
  MutexLock lock(mutex_);
  writing_ = true;
  if (count_ == 0) return about_lost(std::exchange(lost_, 0));
  Line line = std::move(ring_[first_]);
  first_ = (first_ + 1) % ring_.size();
  --count_;
  return line;
}

}  // namespace upload
