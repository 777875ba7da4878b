// SPDX-License-Identifier: BSD-3-Clause
//
// Scheduler: runs fibers one at a time, in an order that is drawn from a seed,
// on virtual time. The same seed makes the same run.
//
// A fiber gives way wherever the plugin takes or gives back a mutex, waits,
// notifies or does I/O. Time stands still while any fiber can run, but for a
// microsecond each step costs; otherwise it jumps to whatever comes first: a
// fiber's time-out or an event of the world around it.
//
// What ends a run: every fiber has ended; the life was killed (kill -9: its fibers
// just never run again); or a failure: nothing can ever run again, too many
// steps, too much time, or something that require() did not find true.
//
// An exception that a fiber throws must be caught in that fiber. While one is under
// way, in destructors that it calls, other fibers may run.
//
// One scheduler at a time, in one thread.

#pragma once

#include <boost/context/fiber.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "soak/random.h"

namespace upload {
class Mutex;
}

namespace upload::sim {

using Duration = std::chrono::steady_clock::duration;
using TimePoint = std::chrono::steady_clock::time_point;
using FiberId = uint64_t;  // from 1

// What a failed run is reported with; unwinds no fiber. It ends the process, or,
// where Scheduler::throws_failures says so, the run.
[[noreturn]] void fail(const std::string& why);
inline void require(bool condition, const char* what) {
  if (!condition) fail(what);
}

struct Fiber;

// The fibers that wait for one thing.
class WaitList {
 public:
  [[nodiscard]] bool empty() const { return fibers_.empty(); }

 private:
  friend class Scheduler;
  std::vector<Fiber*> fibers_;
};

// What run() throws for a failure, if it is told to: the text, and what every fiber
// was waiting for.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Scheduler {
 public:
  struct Limits {
    uint64_t steps = 4'000'000;
    Duration time = std::chrono::hours(24 * 30);
  };

  Scheduler(uint64_t seed, Limits limits);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // --- For fibers

  FiberId spawn(std::string name, std::function<void()> body);
  void join(FiberId id);
  // Perhaps another fiber runs first.
  void yield(const char* where);
  // False: the time has come first.
  bool wait(WaitList& list, const char* what, std::optional<TimePoint> until = std::nullopt);
  void wake_one(WaitList& list);
  void wake_all(WaitList& list);
  void sleep(Duration time);
  void before_unlock(const Mutex& mutex);

  // --- For the world

  [[nodiscard]] TimePoint now() const { return now_; }
  // Does something at that time; it must not wait.
  void at(TimePoint when, std::function<void()> event);
  // Nobody runs until then: the process is stopped (SIGSTOP). Events happen.
  void stop_process(Duration time);
  [[nodiscard]] Duration stopped_time() const { return stopped_time_; }
  // When the last stop has ended.
  [[nodiscard]] TimePoint stopped_until() const { return stopped_until_; }

  // Runs until all fibers have ended, or so many more steps were made: then
  // what is left is killed, and the result is false.
  bool run(std::optional<uint64_t> kill_after = std::nullopt);

  // In ten thousand points at which another fiber may run: that many times it gets none
  // of the processor for up to two seconds.
  uint64_t stalls = 0;
  // A failure kills all fibers, and run() throws it as a Failure.
  bool throws_failures = false;

  // Is called, if set, when a mutex is about to be given back.
  std::function<void(const Mutex&)> at_unlock;
  // Likewise, when no fiber can run, nor is in the middle of anything, and time is to pass.
  std::function<void()> at_rest;

  // Chance. `stream` keeps what it decides apart from the order of fibers.
  [[nodiscard]] soak::Random& random() { return random_; }

  [[nodiscard]] uint64_t steps() const { return steps_; }
  [[nodiscard]] uint64_t trace_hash() const { return hash_; }
  [[nodiscard]] const std::string& fiber_name() const;
  // Goes into the hash, and is printed with --trace.
  void note(const char* format, ...) __attribute__((format(printf, 2, 3)));
  bool print_trace = false;

  // What every fiber waits for, a line for each.
  [[nodiscard]] std::string describe() const;

 private:
  friend void fail(const std::string& why);
  [[noreturn]] void end_run(const std::string& why);
  void switch_to(Fiber& fiber);
  void suspend();
  void make_runnable(Fiber& fiber);
  void remove_from(WaitList& list, Fiber& fiber);
  bool advance();
  void kill_all();
  void mix(uint64_t value) { hash_ = (hash_ ^ value) * 0x100000001b3ULL; }

  const Limits limits_;
  const TimePoint start_;
  TimePoint now_;
  soak::Random random_;
  uint64_t hash_ = 0xcbf29ce484222325ULL;
  uint64_t steps_ = 0;
  FiberId last_id_ = 0;
  Fiber* running_ = nullptr;
  std::map<FiberId, std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> runnable_;
  // By time, then by the order in which they were made.
  std::map<std::pair<TimePoint, uint64_t>, Fiber*> timeouts_;
  std::map<std::pair<TimePoint, uint64_t>, std::function<void()>> events_;
  uint64_t last_timer_ = 0;
  uint64_t stalled_ = 0;  // fibers
  Duration stopped_time_{0};
  TimePoint stopped_until_;
  std::optional<std::string> failure_;
};

// The one there is.
[[nodiscard]] Scheduler& scheduler();

}  // namespace upload::sim
