// SPDX-License-Identifier: BSD-3-Clause
//
// Scripts: tests of the plugin's own sources on fibers and virtual time, which say
// step by step what the server does and what is to come of it.
//
//   SCRIPT("a write waits for ...", "[volume]") { ... }
//
// is a test case whose body runs as a fiber of a Scheduler, once for each of some
// seeds, each of which is another order of the fibers. A script begins what is to
// run beside it with start(), and lets time pass with pass(): while any fiber can run,
// time all but stands still, so after pass() the others have done what they can.
//
// A failure tells its seed. UPLOAD_SCRIPT_SEED=N runs that one only, and
// UPLOAD_SCRIPT_SEEDS=N those from 1 to N; with UPLOAD_SCRIPT_TRACE=1 requests are
// printed. Everything here is for fibers.

#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "base/thread.h"
#include "catch.h"
#include "sim/clock.h"
#include "sim/scheduler.h"
#include "store/faulty_vfs.h"

namespace upload::script {

// Runs the body for every seed, until an assertion fails.
void run(void (*body)());

// A new directory, which is removed after the script.
[[nodiscard]] std::string new_directory();
// The file system under SQLite; when a script begins it is well. A sync takes up to half
// a millisecond, and syncs nothing.
[[nodiscard]] testing::FaultyVfs& file_system();

inline void pass(Duration time) { sim::scheduler().sleep(time); }
// Others do what they can do without any time-out coming.
inline void pass() { pass(std::chrono::milliseconds(20)); }
// Until it is true, by the millisecond; fails after a day.
void wait_until(const std::function<bool()>& is_true);

// What runs beside the script. Its end is waited for, at the latest by the destructor.
template <typename T>
class Task {
 public:
  explicit Task(std::function<T()> body) : state_(std::make_unique<State>()) {
    thread_ = Thread("task", [state = state_.get(), body = std::move(body)] {
      try {
        state->value = body();
      } catch (...) {
        state->error = std::current_exception();
      }
      state->done = true;
    });
  }
  ~Task() {
    if (thread_.joinable()) thread_.join();
  }
  Task(Task&&) noexcept = default;
  Task& operator=(Task&&) = delete;

  [[nodiscard]] bool done() const { return state_->done; }
  // Once.
  T get() {
    thread_.join();
    if (state_->error) std::rethrow_exception(state_->error);
    return std::move(*state_->value);
  }

 private:
  struct State {
    std::optional<T> value;
    std::exception_ptr error;
    bool done = false;
  };
  std::unique_ptr<State> state_;
  Thread thread_;
};

template <typename Body>
[[nodiscard]] auto start(Body body) {
  return Task<std::invoke_result_t<Body>>(std::move(body));
}

}  // namespace upload::script

#define SCRIPT_NAMED(function, ...)                          \
  static void function();                                    \
  TEST_CASE(__VA_ARGS__) { upload::script::run(&function); } \
  static void function()
#define SCRIPT_PASTED(line, ...) SCRIPT_NAMED(script_in_line_##line, __VA_ARGS__)
#define SCRIPT_IN_LINE(line, ...) SCRIPT_PASTED(line, __VA_ARGS__)
#define SCRIPT(...) SCRIPT_IN_LINE(__LINE__, __VA_ARGS__)
