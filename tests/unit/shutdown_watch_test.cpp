// SPDX-License-Identifier: BSD-3-Clause
//
// The watch beside an nbdkit whose sleep ends when the test says so, and a
// server that is away when the test says so.

#include "base/shutdown_watch.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <future>
#include <mutex>

#include "catch.h"
#include "fakes.h"

using namespace std::chrono_literals;
using upload::Duration;
using upload::ShutdownWatch;
using upload::testing::FakeClock;
using upload::testing::kTooLong;

namespace {

constexpr Duration kGiveUpAfter = ShutdownWatch::kGiveUpAfter;

// What the watch sees. Each piece of nbdkit's sleep lasts until it is ended here.
class World {
 public:
  ShutdownWatch::Hooks hooks() {
    return {[this](Duration) { return sleep(); }, [this] { return is_away(); },
            [this] {
              std::lock_guard<std::mutex> lock(mutex_);
              ++given_up_;
              away_ = false;  // nobody waits any more
              changed_.notify_all();
            }};
  }
  void set_away(bool away) {
    std::lock_guard<std::mutex> lock(mutex_);
    away_ = away;
  }
  // nbdkit is to end: its sleep does, and so do all later ones.
  void end_nbdkit() {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  // A piece of sleep is over, and nbdkit goes on.
  void end_piece() {
    std::lock_guard<std::mutex> lock(mutex_);
    ++ended_;
    changed_.notify_all();
  }
  void end_all_pieces() {
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = SIZE_MAX;
    changed_.notify_all();
  }
  void await_sleeps(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    REQUIRE(changed_.wait_for(lock, kTooLong, [&] { return slept_ >= count; }));
  }
  void await_given_up(size_t times = 1) {
    std::unique_lock<std::mutex> lock(mutex_);
    REQUIRE(changed_.wait_for(lock, kTooLong, [&] { return given_up_ >= times; }));
  }
  size_t slept() {
    std::lock_guard<std::mutex> lock(mutex_);
    return slept_;
  }
  size_t given_up() {
    std::lock_guard<std::mutex> lock(mutex_);
    return given_up_;
  }

 private:
  bool sleep() {
    std::unique_lock<std::mutex> lock(mutex_);
    const size_t mine = ++slept_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return ending_ || ended_ >= mine; });
    return ending_;
  }
  bool is_away() {
    std::lock_guard<std::mutex> lock(mutex_);
    return away_;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool away_ = false;
  bool ending_ = false;
  size_t slept_ = 0;
  size_t ended_ = 0;
  size_t given_up_ = 0;
};

}  // namespace

TEST_CASE("while the server answers nbdkit's sleep is left alone", "[watch]") {
  FakeClock clock;
  World world;
  world.end_nbdkit();
  ShutdownWatch watch(world.hooks(), clock);
  for (int i = 0; i < 10; ++i) {
    clock.await_sleepers(1);
    clock.advance(1s);
  }
  clock.await_sleepers(1);
  CHECK(world.slept() == 0);
  CHECK(world.given_up() == 0);
}

TEST_CASE("an outage of any length gives nothing up while nbdkit goes on", "[watch]") {
  FakeClock clock;
  World world;
  world.set_away(true);
  ShutdownWatch watch(world.hooks(), clock);
  for (size_t piece = 1; piece <= 10; ++piece) {
    world.await_sleeps(piece);
    clock.advance(1h);
    world.end_piece();
  }
  world.await_sleeps(11);
  CHECK(world.given_up() == 0);
  world.end_all_pieces();
}

TEST_CASE("when nbdkit is to end in an outage what waits is given up after a few seconds, once",
          "[watch]") {
  FakeClock clock;
  World world;
  world.set_away(true);
  ShutdownWatch watch(world.hooks(), clock);
  world.await_sleeps(1);
  clock.advance(1h);  // the outage before does not count
  world.end_nbdkit();
  clock.await_sleepers(1);
  clock.advance(kGiveUpAfter - 1ms);
  clock.await_sleepers(1);
  CHECK(world.given_up() == 0);
  clock.advance(100ms);
  world.await_given_up();
  for (int i = 0; i < 10; ++i) {
    clock.await_sleepers(1);
    clock.advance(1s);
  }
  clock.await_sleepers(1);
  CHECK(world.given_up() == 1);
}

TEST_CASE("another server that goes away later is given up as well", "[watch]") {
  FakeClock clock;
  World world;
  world.set_away(true);
  world.end_nbdkit();
  ShutdownWatch watch(world.hooks(), clock);
  clock.await_sleepers(1);
  clock.advance(kGiveUpAfter + 100ms);
  world.await_given_up(1);
  clock.await_sleepers(1);
  world.set_away(true);
  clock.advance(1s);
  clock.await_sleepers(1);
  clock.advance(kGiveUpAfter + 100ms);
  world.await_given_up(2);
}

TEST_CASE("a server that answers once nbdkit is to end gets the same few seconds again",
          "[watch]") {
  FakeClock clock;
  World world;
  world.set_away(true);
  world.end_nbdkit();
  ShutdownWatch watch(world.hooks(), clock);
  for (int i = 0; i < 3; ++i) {
    clock.await_sleepers(1);
    clock.advance(kGiveUpAfter - 1ms);
    clock.await_sleepers(1);
    world.set_away(false);
    clock.advance(100ms);
    clock.await_sleepers(1);
    CHECK(world.given_up() == 0);
    world.set_away(true);
  }
  clock.advance(kGiveUpAfter);
  world.await_given_up();
}

TEST_CASE("while the server answers there is no end to how long nbdkit may take", "[watch]") {
  FakeClock clock;
  World world;
  world.set_away(true);
  world.end_nbdkit();
  ShutdownWatch watch(world.hooks(), clock);
  clock.await_sleepers(1);
  world.set_away(false);
  for (int i = 0; i < 10; ++i) {
    clock.advance(kGiveUpAfter);
    clock.await_sleepers(1);
  }
  CHECK(world.given_up() == 0);
}

TEST_CASE("an outage that is over ends the use of nbdkit's sleep", "[watch]") {
  FakeClock clock;
  World world;
  world.set_away(true);
  ShutdownWatch watch(world.hooks(), clock);
  world.await_sleeps(1);
  world.set_away(false);
  world.end_piece();
  for (int i = 0; i < 3; ++i) {
    clock.await_sleepers(1);
    clock.advance(1s);
  }
  clock.await_sleepers(1);
  CHECK(world.slept() == 1);
}

// In each of these no time passes but what the test says.

TEST_CASE("stop() does not wait for time to pass while the server answers", "[watch]") {
  FakeClock clock;
  World world;
  ShutdownWatch watch(world.hooks(), clock);
  clock.await_sleepers(1);
  watch.stop();
  CHECK(world.given_up() == 0);
}

TEST_CASE("stop() during the last seconds gives nothing up", "[watch]") {
  FakeClock clock;
  World world;
  world.set_away(true);
  world.end_nbdkit();
  ShutdownWatch watch(world.hooks(), clock);
  clock.await_sleepers(1);
  watch.stop();
  CHECK(world.given_up() == 0);
}

TEST_CASE("stop() waits for the rest of a piece of nbdkit's sleep, and gives nothing up",
          "[watch]") {
  FakeClock clock;
  World world;
  world.set_away(true);
  ShutdownWatch watch(world.hooks(), clock);
  world.await_sleeps(1);
  auto stopped = std::async(std::launch::async, [&] { watch.stop(); });
  world.end_all_pieces();
  stopped.get();
  CHECK(world.given_up() == 0);
}

TEST_CASE("stop() may be called again, and after everything was given up", "[watch]") {
  FakeClock clock;
  World world;
  world.set_away(true);
  world.end_nbdkit();
  ShutdownWatch watch(world.hooks(), clock);
  clock.await_sleepers(1);
  clock.advance(kGiveUpAfter);
  world.await_given_up();
  watch.stop();
  watch.stop();
  CHECK(world.given_up() == 1);
}
