// SPDX-License-Identifier: BSD-3-Clause
//
// base/thread.h as the simulation has it: a thread is a fiber.

#pragma once

#include <functional>
#include <string>
#include <utility>

#include "sim/scheduler.h"

namespace upload {

class Thread {
 public:
  Thread() = default;
  explicit Thread(std::function<void()> body) : Thread("thread", std::move(body)) {}
  Thread(std::string name, std::function<void()> body)
      : fiber_(sim::scheduler().spawn(std::move(name), std::move(body))) {}
  ~Thread() { sim::require(!joinable(), "a thread is destroyed that nobody has joined"); }
  Thread(Thread&& other) noexcept : fiber_(std::exchange(other.fiber_, 0)) {}
  Thread& operator=(Thread&& other) noexcept {
    sim::require(!joinable(), "a thread is replaced that nobody has joined");
    fiber_ = std::exchange(other.fiber_, 0);
    return *this;
  }

  [[nodiscard]] bool joinable() const { return fiber_ != 0; }
  void join() { sim::scheduler().join(std::exchange(fiber_, 0)); }

 private:
  sim::FiberId fiber_ = 0;
};

}  // namespace upload
