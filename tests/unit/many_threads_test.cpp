// SPDX-License-Identifier: BSD-3-Clause
//
// A volume under many real threads, with connections that are lost and a server that
// comes and goes: for data races, which only real threads have. In which order things
// happen is what tests/script looks at.

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "catch.h"
#include "disk.h"
#include "fakes.h"
#include "fixture/temporary_directory.h"
#include "journal/spool_file.h"
#include "journal/sqlite_store.h"
#include "script/asked.h"
#include "store/faulty_vfs.h"

using namespace std::chrono_literals;
using upload::Kind;
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
using upload::testing::FaultyVfs;
using upload::testing::kBlock;
using upload::volume::VolumeOptions;
namespace http = upload::http;

namespace {

const Status kReset(Kind::kLost, "reset");

struct Fixture {
  explicit Fixture(VolumeOptions options)
      // Waits for a connection must not end because the machine is busy.
      : pool({3, 1000s, 60000s}, server.factory(), clock),
        volume(std::move(options), pool, clock, stats) {}
  ~Fixture() { upload::testing::end(volume, pool); }

  Status write(uint64_t block, char fill, uint64_t count = 1, bool fua = false) {
    const std::vector<char> data(count * kBlock, fill);
    return volume.write({block * kBlock, data.size()}, data.data(), fua);
  }
  std::string read(uint64_t block) {
    std::string data(kBlock, '?');
    const Status status = volume.read({block * kBlock, data.size()}, data.data());
    return status.ok() ? data.substr(0, 1) : status.text();
  }

  FastClock clock{20};
  FakeServer server;
  upload::Stats stats;
  upload::upstream::Pool pool;
  upload::volume::Volume volume;
};

// In the given number of threads, which are numbered.
template <typename Body>
void run_threads(uint64_t count, const Body& body) {
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < count; ++t) threads.emplace_back(body, t);
  for (std::thread& thread : threads) thread.join();
}

VolumeOptions replaying(uint64_t blocks) {
  VolumeOptions options = upload::testing::disk_options(blocks);
  options.replay = 128 * kBlock;
  options.late = 1s;
  // A busy machine must not run out of time that passes too fast.
  options.retry_time = 36000s;
  return options;
}

// What a server has, by block.
class Blocks {
 public:
  Result<http::Reply> answer(const http::Request& request) {
    const Asked asked = upload::script::parse(request);
    std::lock_guard<std::mutex> lock(mutex_);
    http::Reply reply = FakeServer::ok();
    uint64_t block = asked.range.offset / kBlock;
    if (asked.verb == Verb::kOptions) {
      reply.body = R"({"features": ["zero", "flush"]})";
    } else if (asked.verb == Verb::kRead) {
      reply = FakeServer::ok(206);
      for (size_t i = 0; i < request.sink.size(); ++i)
        request.sink[i] = static_cast<std::byte>(blocks_[block + i / kBlock]);
      reply.headers.set("Content-Range", "bytes " + std::to_string(asked.range.offset) + "-" +
                                             std::to_string(asked.range.last()) + "/16777216");
      reply.sunk = request.sink.size();
    } else {
      for (const http::BodyPart& part : request.parts)
        for (uint64_t i = 0; i < part.length; i += kBlock)
          blocks_[block++] = static_cast<const char*>(part.data)[i];
    }
    return reply;
  }
  char at(uint64_t block) {
    std::lock_guard<std::mutex> lock(mutex_);
    return blocks_[block];
  }

 private:
  std::mutex mutex_;
  std::map<uint64_t, char> blocks_;
};

}  // namespace

TEST_CASE("many threads write, flush and lose connections without a hang", "[threads]") {
  VolumeOptions options = upload::testing::disk_options(1024);
  options.capabilities.can_extents = true;
  Fixture f(std::move(options));
  std::atomic<uint64_t> count = 0;
  f.server.on_request([&](const http::Request&) -> Result<http::Reply> {
    if (++count % 97 == 0) return FakeServer::ok(503);
    return FakeServer::ok();
  });
  std::atomic<uint64_t> good = 0;
  run_threads(8, [&](uint64_t t) {
    for (uint64_t i = 0; i < 400; ++i)
      if (f.write((t * 37 + i * 11) % 256, 'a', 1 + i % 4, i % 16 == 0).ok()) ++good;
  });
  CHECK(good > 0);
}

TEST_CASE("many threads, and connections that are lost all the time: no error, no hang",
          "[threads]") {
  Fixture f(replaying(4096));
  std::atomic<uint64_t> count = 0;
  f.server.on_request([&](const http::Request&) -> Result<http::Reply> {
    if (++count % 7 == 0) return kReset;
    return FakeServer::ok();
  });
  std::atomic<uint64_t> failed = 0;
  run_threads(6, [&](uint64_t t) {
    for (uint64_t i = 0; i < 200; ++i) {
      if (!f.write((t * 37 + i * 11) % 256, 'a', 1 + i % 4).ok()) ++failed;
      if (i % 50 == 0 && !f.volume.flush().ok()) ++failed;
    }
  });
  CHECK(f.volume.flush().ok());
  CHECK(failed == 0);
}

TEST_CASE("many threads, and a server that comes and goes: no error, no byte lost", "[threads]") {
  FaultyVfs vfs;
  vfs.skip_syncs();
  TemporaryDirectory d;
  upload::SteadyClock steady;
  auto file = SpoolFile::lock(d.path(), {"host:443", "/disk"}, steady);
  REQUIRE(file.ok());
  auto store = SqliteStore::open({file.value()->path(), "disk", 4096 * kBlock, &steady}, true);
  REQUIRE(store.ok());
  VolumeOptions options = replaying(4096);
  options.spool = std::make_shared<Spool>(std::move(file.value()), std::move(store.value()),
                                          std::vector<upload::journal::SpoolRow>(), steady, 300s);
  options.spool_size = 8 << 20;
  Fixture f(std::move(options));
  Blocks blocks;
  std::atomic<bool> stays = false;
  std::atomic<uint64_t> refused = 0;
  // It is away for half of the time, in one way or another.
  f.server.on_request([&](const http::Request& request) -> Result<http::Reply> {
    const auto phase = f.clock.passed() / 200ms % 4;
    if (stays || phase % 2 == 1) return blocks.answer(request);
    ++refused;
    return phase == 0 ? kReset : Status(Kind::kConnect, "refused");
  });
  constexpr uint64_t kThreads = 6;
  std::mutex mutex;
  std::string failed;
  const auto expect = [&](const std::string& what, const std::string& wanted) {
    std::lock_guard<std::mutex> lock(mutex);
    if (what != wanted) failed += what + "\n";
  };
  std::vector<std::map<uint64_t, char>> wrote(kThreads);
  run_threads(kThreads, [&](uint64_t t) {
    // Blocks of its own, in between those of the others.
    for (uint64_t i = 0; i < 400; ++i) {
      const uint64_t block = (i * 7 % 50) * kThreads + t;
      const char fill = static_cast<char>('a' + i % 26);
      expect(f.write(block, fill).text(), "");
      wrote[t][block] = fill;
      if (i % 100 == 0) expect(f.volume.flush().text(), "");
      if (i % 10 == 0) expect(f.read(block), std::string(1, fill));
    }
  });
  stays = true;
  f.volume.wait_for_spool(36000s);
  CHECK(f.volume.flush().ok());
  CHECK(failed == "");
  CHECK(refused > 0);
  uint64_t wrong = 0;
  for (const auto& mine : wrote)
    for (const auto& [block, fill] : mine) wrong += blocks.at(block) == fill ? 0 : 1;
  CHECK(wrong == 0);
}
