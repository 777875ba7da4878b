// SPDX-License-Identifier: BSD-3-Clause
//
// A script's body is a fiber, and Catch2 runs the test case on the main stack: what
// the body throws (REQUIRE does) is caught in the fiber and thrown again there. What
// ends a run without unwinding it, such as a deadlock, the scheduler throws there.
// What a script has on the disk therefore belongs to run(), not to the script.

#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include "script/script.h"

#include <cstdlib>
#include <list>

#include "fixture/temporary_directory.h"

namespace upload::script {

namespace {

constexpr uint64_t kSeeds = 20;
constexpr sim::Scheduler::Limits kLimits{.steps = 2'000'000, .time = std::chrono::hours(48)};

uint64_t failures = 0;
std::list<fixture::TemporaryDirectory>* directories = nullptr;

#if __has_include(<catch2/catch_all.hpp>)
class FailureCounter : public Catch::EventListenerBase {
 public:
  using EventListenerBase::EventListenerBase;
  void assertionEnded(const Catch::AssertionStats& stats) override {
    failures += stats.assertionResult.isOk() ? 0 : 1;
  }
};
#else
class FailureCounter : public Catch::TestEventListenerBase {
 public:
  using TestEventListenerBase::TestEventListenerBase;
  bool assertionEnded(const Catch::AssertionStats& stats) override {
    failures += stats.assertionResult.isOk() ? 0 : 1;
    return TestEventListenerBase::assertionEnded(stats);
  }
};
#endif

CATCH_REGISTER_LISTENER(FailureCounter)

// The number in the environment, or `otherwise`.
uint64_t number_of(const char* name, uint64_t otherwise) {
  const char* const text = getenv(name);
  return text == nullptr ? otherwise : strtoull(text, nullptr, 10);
}

void run_once(void (*body)(), uint64_t seed) {
  std::list<fixture::TemporaryDirectory> made;
  directories = &made;
  file_system().set(testing::FaultyVfs::Fault::kNone);
  file_system().skip_syncs(
      [] { pass(std::chrono::microseconds(sim::scheduler().random().below(500))); });
  std::exception_ptr error;
  sim::Scheduler scheduler(seed, kLimits);
  scheduler.throws_failures = true;
  scheduler.print_trace = getenv("UPLOAD_SCRIPT_TRACE") != nullptr;
  scheduler.spawn("script", [&] {
    try {
      body();
    } catch (...) {
      error = std::current_exception();
    }
  });
  scheduler.run();
  if (error) std::rethrow_exception(error);
}

}  // namespace

void run(void (*body)()) {
  const uint64_t only = number_of("UPLOAD_SCRIPT_SEED", 0);
  const uint64_t last = only > 0 ? only : number_of("UPLOAD_SCRIPT_SEEDS", kSeeds);
  const uint64_t before = failures;
  for (uint64_t seed = only > 0 ? only : 1; seed <= last && failures == before; ++seed) {
    INFO("repeat with UPLOAD_SCRIPT_SEED=" << seed);
    run_once(body, seed);
  }
}

std::string new_directory() { return directories->emplace_back().path(); }

testing::FaultyVfs& file_system() {
  static testing::FaultyVfs vfs;
  return vfs;
}

void wait_until(const std::function<bool()>& is_true) {
  const sim::TimePoint give_up = sim::scheduler().now() + std::chrono::hours(24);
  while (!is_true()) {
    sim::require(sim::scheduler().now() < give_up, "what a script waits for does not come");
    pass(std::chrono::milliseconds(1));
  }
}

}  // namespace upload::script
