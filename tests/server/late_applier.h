// SPDX-License-Identifier: BSD-3-Clause
//
// Does things later, on a thread of its own.

#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace upload::testserver {

/// Thread safe, but start() and stop() exclude each other.
class LateApplier {
 public:
  LateApplier() = default;
  ~LateApplier() { stop(); }
  LateApplier(const LateApplier&) = delete;
  LateApplier& operator=(const LateApplier&) = delete;

  void start();
  /// What has not been done by then never is.
  void stop();
  void schedule(std::chrono::milliseconds after, std::function<void()> work);

 private:
  using Clock = std::chrono::steady_clock;

  void run();

  std::thread thread_;

  std::mutex mutex_;  // protects all below
  std::condition_variable changed_;
  std::multimap<Clock::time_point, std::function<void()>> work_;
  bool stopping_ = false;
};

}  // namespace upload::testserver
