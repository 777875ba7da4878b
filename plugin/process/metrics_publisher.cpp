// SPDX-License-Identifier: BSD-3-Clause
//
// Each round collects, and then writes, with no mutex held (invariant 9). The
// thread waits for no server, so it writes also while clients wait in an outage. A file system may
// hang: then only this thread does, and the end of the process waits for it for a moment (invariant
// 8). What hangs is the writing, never the collecting: so whoever gives the thread up knows that it
// does not look at the volumes, which end next, and will not.

#include "process/metrics_publisher.h"

#include <new>
#include <utility>

#include "base/log.h"

namespace upload {

void MetricsPublisher::start() {
  thread_ = Thread([this] { run(); });
}

bool MetricsPublisher::stop() {
  if (!thread_.joinable()) return true;
  if (!await_end()) return false;
  thread_.join();
  return true;
}

// Waits for what is collected, and only for a moment for what is written.
bool MetricsPublisher::await_end() {
  MutexLock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  const TimePoint until = clock_.now() + kLongestEnd;
  while (!ended_ && (collecting_ || clock_.now() < until)) {
    if (collecting_)
      changed_.wait(mutex_);
    else
      clock_.wait_until(changed_, mutex_, until);
  }
  given_up_ = !ended_;
  return ended_;
}

// --- The thread -----------------------------------------------------------

void MetricsPublisher::run() noexcept {
  for (bool last = false; !last;) {
    const TimePoint next = clock_.now() + kEvery;
    const std::optional<Round> round = begin_round();
    if (!round) break;
    last = *round == Round::kLast;
    publish();
    if (!last) wait_until(next);
  }
  MutexLock lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

// Nothing: the thread was given up.
std::optional<MetricsPublisher::Round> MetricsPublisher::begin_round() {
  MutexLock lock(mutex_);
  if (given_up_) return std::nullopt;
  collecting_ = true;
  return stopping_ ? Round::kLast : Round::kOrdinary;
}

void MetricsPublisher::publish() {
  std::optional<std::string> text;
  try {
    text = hooks_.collect();
  } catch (const std::bad_alloc&) {  // there may be memory the next time
  }
  {
    MutexLock lock(mutex_);
    collecting_ = false;
    changed_.notify_all();
  }
  if (!text) return;
  try {
    const Status status = hooks_.write(*text);
    if (!status.ok() && !std::exchange(warned_, true))
      log::warning("%s; the upload goes on", status.text().c_str());
  } catch (const std::bad_alloc&) {
  }
}

void MetricsPublisher::wait_until(TimePoint when) {
  MutexLock lock(mutex_);
  while (!stopping_ && clock_.now() < when) clock_.wait_until(changed_, mutex_, when);
}

}  // namespace upload
