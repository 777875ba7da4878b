// SPDX-License-Identifier: BSD-3-Clause
//
// The queue in front of a reader who reads when the test says so.

#include "base/log_queue.h"

#include <condition_variable>
#include <cstddef>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "catch.h"
#include "fakes.h"

using namespace std::chrono_literals;
using upload::LogQueue;
using upload::testing::FakeClock;
using upload::testing::kTooLong;
using Level = LogQueue::Level;

namespace {

// A standard error with room for so many lines.
class Reader {
 public:
  LogQueue::Output output() {
    return {[this] { return ready(); }, [this](Level, const char* line) { write(line); }};
  }
  void make_room(size_t lines) {
    std::lock_guard<std::mutex> lock(mutex_);
    room_ += lines;
    changed_.notify_all();
  }
  // The thread asks for room, and finds none.
  void await_refused() {
    std::unique_lock<std::mutex> lock(mutex_);
    const size_t before = refused_;
    REQUIRE(changed_.wait_for(lock, kTooLong, [&] { return refused_ > before; }));
  }
  std::vector<std::string> await_lines(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    REQUIRE(changed_.wait_for(lock, kTooLong, [&] { return lines_.size() >= count; }));
    return lines_;
  }
  std::vector<std::string> lines() {
    std::lock_guard<std::mutex> lock(mutex_);
    return lines_;
  }
  std::thread::id writer() {
    std::lock_guard<std::mutex> lock(mutex_);
    return writer_;
  }

 private:
  bool ready() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (changed_.wait_for(lock, 1ms, [&] { return room_ > 0; })) return true;
    ++refused_;
    changed_.notify_all();
    return false;
  }
  void write(const char* line) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (room_ > 0) --room_;
    lines_.emplace_back(line);
    writer_ = std::this_thread::get_id();
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  size_t room_ = 0;
  size_t refused_ = 0;
  std::vector<std::string> lines_;
  std::thread::id writer_;
};

std::string number(size_t i) { return "line " + std::to_string(i); }

}  // namespace

TEST_CASE("before there is a thread a line is written by whoever has it", "[lines]") {
  FakeClock clock;
  Reader reader;
  LogQueue queue(reader.output(), clock);
  queue.add(Level::kWarning, "first");
  CHECK(reader.lines() == std::vector<std::string>{"first"});
  CHECK(reader.writer() == std::this_thread::get_id());
}

TEST_CASE("the thread writes lines in their order, and those of before the end at the end",
          "[lines]") {
  FakeClock clock;
  Reader reader;
  LogQueue queue(reader.output(), clock);
  queue.start();
  std::vector<std::string> expected;
  for (size_t i = 0; i < 100; ++i) {
    expected.push_back(number(i));
    queue.add(Level::kError, expected.back());
  }
  reader.make_room(1000);
  queue.stop();
  CHECK(reader.lines() == expected);
  CHECK(reader.writer() != std::this_thread::get_id());
  queue.add(Level::kError, "after the end");
  CHECK(reader.lines().back() == "after the end");
}

TEST_CASE("lines that nobody reads keep nobody, and are counted where they are missing",
          "[lines]") {
  FakeClock clock;
  Reader reader;
  LogQueue queue(reader.output(), clock);
  queue.start();
  for (size_t i = 0; i < LogQueue::kMaxLines + 7; ++i) queue.add(Level::kError, number(i));
  reader.await_refused();
  CHECK(reader.lines().empty());
  // Room for the count and for a line.
  reader.make_room(2);
  reader.await_lines(2);
  reader.await_refused();
  queue.add(Level::kError, "later");
  reader.make_room(10000);
  queue.stop();
  const auto lines = reader.lines();
  REQUIRE(lines.size() == LogQueue::kMaxLines + 2);
  for (size_t i = 0; i < LogQueue::kMaxLines; ++i) REQUIRE(lines[i] == number(i));
  CHECK(lines[lines.size() - 2] == "7 lines were lost, since nobody read standard error");
  CHECK(lines.back() == "later");
}

TEST_CASE("lines that were lost last are told of when all others are written", "[lines]") {
  FakeClock clock;
  Reader reader;
  LogQueue queue(reader.output(), clock);
  queue.start();
  for (size_t i = 0; i < LogQueue::kMaxLines + 1; ++i) queue.add(Level::kError, number(i));
  reader.make_room(10000);
  const auto lines = reader.await_lines(LogQueue::kMaxLines + 1);
  CHECK(lines.back() == "1 lines were lost, since nobody read standard error");
}

TEST_CASE("the end waits for a reader who is slow", "[lines]") {
  FakeClock clock;
  Reader reader;
  LogQueue queue(reader.output(), clock);
  queue.start();
  for (size_t i = 0; i < 10; ++i) queue.add(Level::kError, number(i));
  auto stopped = std::async(std::launch::async, [&] { queue.stop(); });
  for (size_t i = 1; i <= 10; ++i) {
    clock.await_sleepers(1);
    clock.advance(LogQueue::kReaderTimeout - 1ms);
    reader.make_room(1);
    reader.await_lines(i);
    if (i < 10) reader.await_refused();  // by then the queue knows that the line is written
  }
  stopped.get();
  CHECK(reader.lines().size() == 10);
}

TEST_CASE("the end does not wait for a reader who does not read", "[lines]") {
  FakeClock clock;
  Reader reader;
  LogQueue queue(reader.output(), clock);
  queue.start();
  queue.add(Level::kError, "unread");
  auto stopped = std::async(std::launch::async, [&] { queue.stop(); });
  while (stopped.wait_for(1ms) != std::future_status::ready)
    clock.advance(LogQueue::kReaderTimeout);
  stopped.get();
  queue.add(Level::kError, "after the end");
  CHECK(reader.lines().empty());
}

TEST_CASE("a line that is too long is cut", "[lines]") {
  FakeClock clock;
  Reader reader;
  LogQueue queue(reader.output(), clock);
  queue.add(Level::kError, std::string(LogQueue::kMaxBytes, 'x'));
  queue.add(Level::kError, std::string(LogQueue::kMaxBytes + 1, 'x'));
  CHECK(reader.lines()[0] == std::string(LogQueue::kMaxBytes, 'x'));
  CHECK(reader.lines()[1] == std::string(LogQueue::kMaxBytes - 3, 'x') + "...");
}
