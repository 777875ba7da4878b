// SPDX-License-Identifier: BSD-3-Clause
//
// Memory that is short: operator new fails for each allocation in turn. What has not been
// promised fails with kNoMemory; what was acknowledged is on the server or in the spool; and
// the process goes on. A program of its own, since it replaces operator new.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "base/memory_reserve.h"
#include "catch.h"
#include "fixture/temporary_directory.h"
#include "journal/spool_file.h"
#include "journal/sqlite_store.h"
#include "script/asked.h"
#include "unit/disk.h"
#include "unit/fakes.h"

using namespace std::chrono_literals;
using upload::Kind;
using upload::MemoryReserve;
using upload::Result;
using upload::Status;
using upload::fixture::TemporaryDirectory;
using upload::journal::Spool;
using upload::journal::SpoolFile;
using upload::journal::SqliteStore;
using upload::script::Asked;
using upload::script::Verb;
using upload::testing::FakeServer;
using upload::testing::FastClock;
using upload::testing::kBlock;
using upload::volume::VolumeOptions;
namespace http = upload::http;

namespace {

// Allocations of at least `least` bytes fail from the `from`th on, so many times.
std::atomic<size_t> least = SIZE_MAX;
std::atomic<int64_t> from = 0;
std::atomic<int64_t> times = 0;

bool is_to_fail(size_t bytes) {
  if (bytes < least.load() || --from > 0) return false;
  return times-- > 0;
}

void fail(size_t bytes, int64_t nth, int64_t count) {
  from = nth;
  times = count;
  least = bytes;
}

void fail_nothing() { least = SIZE_MAX; }

}  // namespace

// Not inlined: g++ would find a new of one kind with a free of another.
#define REPLACED __attribute__((noinline))

REPLACED void* operator new(size_t bytes) {
  while (is_to_fail(bytes)) {
    const std::new_handler handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
  }
  void* const memory = malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
REPLACED void* operator new[](size_t bytes) { return operator new(bytes); }
REPLACED void operator delete(void* memory) noexcept { free(memory); }
REPLACED void operator delete[](void* memory) noexcept { free(memory); }
REPLACED void operator delete(void* memory, size_t) noexcept { free(memory); }
REPLACED void operator delete[](void* memory, size_t) noexcept { free(memory); }

namespace {

constexpr uint64_t kWrite = 32 * kBlock;
constexpr size_t kLarge = 64 << 10;

// A server that keeps the first byte of each write, and can be away.
struct Disk {
  Result<http::Reply> answer(const http::Request& request) {
    const Asked asked = upload::script::parse(request);
    std::lock_guard<std::mutex> lock(mutex);
    if (away) return Status(Kind::kConnect, "away");
    http::Reply reply = FakeServer::ok();
    if (asked.verb == Verb::kOptions) reply.body = R"({"features": ["zero", "flush"]})";
    uint64_t offset = asked.range.offset;
    for (const http::BodyPart& part : request.parts) {
      for (uint64_t at = 0; at < part.length; at += kWrite)
        first[offset + at] = static_cast<const char*>(part.data)[at];
      offset += part.length;
    }
    return reply;
  }
  std::mutex mutex;
  bool away = false;
  std::map<uint64_t, char> first;
};

struct Fixture {
  explicit Fixture(bool with_spool) {
    VolumeOptions options = upload::testing::disk_options(4096);
    options.replay = 8 << 20;
    options.late = 1s;
    options.retry_time = 36000s;
    if (with_spool) {
      auto file = SpoolFile::lock(directory.path(), {"host:443", "/disk"}, steady);
      auto store =
          SqliteStore::open({file.value()->path(), "disk", 4096 * kBlock, &steady}, true);
      options.spool =
          std::make_shared<Spool>(std::move(file.value()), std::move(store.value()),
                                  std::vector<upload::journal::SpoolRow>(), steady, 300s);
      options.spool_size = 64 << 20;
    }
    server.on_request([this](const http::Request& request) { return disk.answer(request); });
    pool = std::make_unique<upload::upstream::Pool>(
        upload::upstream::PoolOptions{3, 1000s, 60000s}, server.factory(), clock);
    volume = std::make_unique<upload::volume::Volume>(std::move(options), *pool, clock, stats);
  }
  ~Fixture() { upload::testing::end(*volume, *pool); }

  void set_away(bool away) {
    std::lock_guard<std::mutex> lock(disk.mutex);
    disk.away = away;
  }

  // Writes in turn; each gets what it must, and is remembered when it was acknowledged.
  void write(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i, ++writes) {
      const char fill = static_cast<char>('a' + writes % 26);
      std::fill(data.begin(), data.end(), fill);
      const uint64_t offset = i * kWrite;
      const Status status = MemoryReserve::there()
                                ? volume->write({offset, kWrite}, data.data(), false)
                                : Status(Kind::kNoMemory, "refused");
      INFO(status.text());
      if (status.ok())
        acknowledged[offset] = fill;
      else
        unsure[offset] = true;
      REQUIRE((status.ok() || status.kind() == Kind::kNoMemory));
      if (!status.ok()) ++failures;
    }
  }

  void check() {
    const Status flushed = volume->flush();
    INFO(flushed.text());
    REQUIRE(flushed.ok());
    std::lock_guard<std::mutex> lock(disk.mutex);
    for (const auto& [offset, fill] : acknowledged)
      if (!unsure.contains(offset)) CHECK(disk.first[offset] == fill);
  }

  TemporaryDirectory directory;
  upload::SteadyClock steady;
  FastClock clock{20};
  FakeServer server;
  Disk disk;
  upload::Stats stats;
  std::unique_ptr<upload::upstream::Pool> pool;
  std::unique_ptr<upload::volume::Volume> volume;
  std::vector<char> data = std::vector<char>(kWrite);
  std::map<uint64_t, char> acknowledged;
  std::map<uint64_t, bool> unsure;  // a write there failed, and may have got there
  uint64_t writes = 0;
  uint64_t failures = 0;
};

}  // namespace

TEST_CASE("without memory for the replay log a write fails, and nothing else", "[memory]") {
  uint64_t failures = 0;
  for (int64_t nth = 1; nth <= 8; ++nth) {
    Fixture f(false);
    f.write(4);
    fail(kLarge, nth, 4);
    f.write(8);
    fail_nothing();
    f.write(4);
    f.check();
    failures += f.failures;
  }
  CHECK(failures > 0);
}

TEST_CASE("without memory for the spool a write fails, and what is in it gets to the server",
          "[memory]") {
  uint64_t failures = 0;
  for (int64_t nth = 1; nth <= 8; ++nth) {
    Fixture f(true);
    f.write(4);
    f.set_away(true);
    f.write(2);
    fail(kLarge, nth, 4);
    f.write(8);
    fail_nothing();
    f.write(2);
    // The way back, short of memory too.
    fail(kLarge, nth, 4);
    f.set_away(false);
    f.check();
    fail_nothing();
    failures += f.failures;
  }
  CHECK(failures > 0);
}

TEST_CASE("what is small gets the reserve, whichever allocation fails", "[memory]") {
  MemoryReserve::set_up();
  fail_nothing();
  for (int64_t nth = 1; nth < 400; nth += 3) {
    REQUIRE(MemoryReserve::there());
    Fixture f(nth % 2 == 0);
    f.write(1);
    fail(1, nth, 1);
    f.write(2);
    f.set_away(nth % 4 == 0);
    f.write(2);
    f.set_away(false);
    f.write(1);
    CHECK(f.failures == 0);
    f.check();
    fail_nothing();
  }
}

TEST_CASE("what was set aside is set aside again when it was used", "[memory]") {
  MemoryReserve::set_up();
  CHECK(MemoryReserve::there());
  fail(1, 1, 1);
  delete new int(0);
  fail_nothing();
  CHECK(MemoryReserve::there());
  // Used up: a failure is one.
  fail(1, 1, 2);
  CHECK_THROWS_AS(operator new(1), std::bad_alloc);
  fail_nothing();
}
