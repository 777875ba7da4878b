// SPDX-License-Identifier: BSD-3-Clause
//
// A volume with a spool over fake connections and a real store: what goes
// where in each state, in which order it gets to the server, and what is left
// for the next run.

#include <cstring>
#include <filesystem>
#include <future>
#include <map>
#include <set>
#include <thread>

#include "catch.h"
#include "disk.h"
#include "fakes.h"
#include "fixture/temporary_directory.h"
#include "journal/spool_file.h"
#include "journal/sqlite_store.h"
#include "store/faulty_vfs.h"
#include "volume/volume.h"

using namespace std::chrono_literals;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::fixture::TemporaryDirectory;
using upload::journal::Spool;
using upload::journal::SpoolFile;
using upload::journal::SqliteStore;
using upload::pool::Pool;
using upload::target::Durability;
using upload::testing::FakeClock;
using upload::testing::FakeServer;
using upload::testing::FaultyVfs;
using upload::testing::kBlock;
using upload::volume::Volume;
namespace fs = std::filesystem;
namespace http = upload::http;

namespace {

constexpr uint64_t kBlocks = 4096;

struct Settings {
  bool local = false;
  uint64_t spool_size = 1 << 20;
  unsigned connections = 1;
  upload::Duration late = 60s;
  uint64_t replay = 128 * kBlock;
  upload::Duration retry_time = 300s;
  upload::Duration denied_wait = 0s;
  bool away = false;  // the server, from the start on
  Durability durability = Durability::kOnFlush;
};

// A server that can be away; what it has is by block.
struct Fixture {
  explicit Fixture(const std::string& directory, Settings settings = {})
      : pool({settings.connections, 10s, 60s}, server.factory(), clock) {
    server.on_request([this](const http::Request& request) { return answer(request); });
    if (settings.away) away();
    auto file = SpoolFile::lock(directory, {"host:443", "/disk"}, clock);
    REQUIRE(file.ok());
    path = file.value()->path();
    auto store = SqliteStore::open({path, "disk", kBlocks * kBlock, &clock}, true);
    INFO(store.status().text());
    REQUIRE(store.ok());
    auto rows = store.value()->rows();
    upload::volume::VolumeOptions options = upload::testing::disk_options(kBlocks);
    options.capabilities.durability = settings.durability;
    options.replay = settings.replay;
    options.retry_time = settings.retry_time;
    options.late = settings.late;
    options.denied_wait = settings.denied_wait;
    options.spool = std::make_shared<Spool>(std::move(file.value()), std::move(store.value()),
                                            std::move(rows.value()), clock, 300s);
    options.spool_size = settings.spool_size;
    options.spool_local = settings.local;
    volume = std::make_unique<Volume>(std::move(options), pool, clock, stats);
  }
  ~Fixture() {
    server.release_all();
    upload::testing::end(*volume, pool);
  }

  Result<http::Reply> answer(const http::Request& request) {
    std::lock_guard<std::mutex> lock(mutex);
    ++requests;
    if (!failure.ok()) return failure;
    if (denied) return FakeServer::ok(403);
    if (request.method == http::Method::kOptions) {
      http::Reply reply = FakeServer::ok();
      reply.body = R"({"features": ["zero", "flush"]})";
      return reply;
    }
    const size_t at = request.what.rfind(' ');
    const uint64_t offset = at == std::string::npos ? 0 : strtoull(&request.what[at], nullptr, 10);
    if (!request.sink.empty()) {
      for (size_t i = 0; i < request.sink.size(); ++i)
        request.sink[i] = static_cast<std::byte>(disk[(offset + i) / kBlock]);
      http::Reply reply = FakeServer::ok(206);
      reply.content_range = "bytes " + std::to_string(offset) + "-" +
                            std::to_string(offset + request.sink.size() - 1) + "/16777216";
      reply.sunk = request.sink.size();
      return reply;
    }
    uint64_t block = offset / kBlock;
    if (request.what.compare(0, 5, "zero ") == 0)
      for (uint64_t n = strtoull(&request.what[5], nullptr, 10) / kBlock; n > 0; --n)
        disk[block++] = '0';
    for (const http::BodyPart& part : request.parts)
      for (uint64_t i = 0; i < part.length; i += kBlock)
        disk[block++] =
            part.data == nullptr ? '0' : static_cast<const char*>(part.data)[i];
    return FakeServer::ok();
  }
  void away(const Status& status = {Kind::kConnect, "refused"}) {
    std::lock_guard<std::mutex> lock(mutex);
    failure = status;
  }
  void back() { away({}); }
  // The server has been started again: connections are lost, and until it is told of
  // its ticket it denies everything.
  void forget_ticket() {
    std::lock_guard<std::mutex> lock(mutex);
    for (http::ConnectionId id = 1; id <= server.connections_made(); ++id) server.close_idle(id);
    denied = true;
  }
  void add_ticket() {
    std::lock_guard<std::mutex> lock(mutex);
    denied = false;
  }

  Status write(uint64_t block, char fill = 'a', uint64_t count = 1, bool fua = false) {
    const std::vector<char> data(count * kBlock, fill);
    return volume->write({block * kBlock, data.size()}, data.data(), fua);
  }
  std::string read(uint64_t block, uint64_t count) {
    std::string data(count * kBlock, '?');
    const Status status = volume->read({block * kBlock, data.size()}, data.data());
    if (!status.ok()) return status.text();
    std::string blocks;
    for (uint64_t i = 0; i < count; ++i) blocks += data[i * kBlock];
    return blocks;
  }
  std::string on_server(uint64_t block, uint64_t count) {
    std::lock_guard<std::mutex> lock(mutex);
    std::string blocks;
    for (uint64_t i = 0; i < count; ++i)
      blocks += disk.contains(block + i) ? disk[block + i] : '.';
    return blocks;
  }
  size_t count(const std::string& prefix) {
    size_t n = 0;
    for (const auto& sent : server.sent()) n += sent.what.compare(0, prefix.size(), prefix) == 0;
    return n;
  }
  uint64_t file_size() const { return fs::file_size(path); }

  // Moves time until it is done: slowly enough that what waits for time to pass
  // is not given up because a busy machine does not get to it.
  template <typename Future>
  auto pass_time(Future& future, upload::Duration step = 1s) {
    while (future.wait_for(1ms) != std::future_status::ready) clock.advance(step);
    return future.get();
  }
  // Until the spool is empty, and the volume direct.
  void settle() {
    auto settled = std::async(std::launch::async, [&] { volume->wait_for_spool(300s); });
    pass_time(settled, 200ms);
  }

  std::mutex mutex;
  Status failure;
  bool denied = false;
  std::map<uint64_t, char> disk;
  uint64_t requests = 0;
  std::string path;
  FakeClock clock;
  FakeServer server;
  upload::Stats stats;
  Pool pool;
  std::unique_ptr<Volume> volume;
};

}  // namespace

TEST_CASE("while the server answers nothing touches the disk", "[spool]") {
  TemporaryDirectory d;
  Fixture f(d.path());
  const uint64_t before = f.file_size();
  const auto time = fs::last_write_time(f.path);
  for (uint64_t block = 0; block < 100; ++block) REQUIRE(f.write(block).ok());
  CHECK(f.volume->flush().ok());
  CHECK(f.file_size() == before);
  CHECK(fs::last_write_time(f.path) == time);
}

TEST_CASE("one lost connection does not begin spooling", "[spool]") {
  TemporaryDirectory d;
  Fixture f(d.path());
  CHECK(f.write(0).ok());
  f.server.close_idle(1);
  CHECK(f.write(1).ok());
  const uint64_t before = f.file_size();
  CHECK(f.volume->flush().ok());
  CHECK(f.file_size() == before);
  CHECK(f.on_server(0, 2) == "aa");
}

TEST_CASE("while the server is away writes succeed, and reads see them", "[spool]") {
  TemporaryDirectory d;
  Fixture f(d.path());
  CHECK(f.write(0, 'a', 4).ok());
  CHECK(f.volume->flush().ok());
  f.away();
  CHECK(f.write(1, 'b', 2).ok());
  CHECK(f.write(2, 'c').ok());
  CHECK(f.volume->zero({3 * kBlock, kBlock}, false).ok());
  CHECK(f.read(1, 3) == std::string("bc") + '\0');
  CHECK(f.on_server(0, 4) == "aaaa");
  f.back();
  f.settle();
  CHECK(f.on_server(0, 4) == "abc0");
  CHECK(f.read(0, 4) == "abc0");
  CHECK(f.volume->flush().ok());
}

TEST_CASE("the log in memory moves to the spool", "[spool]") {
  TemporaryDirectory d;
  Settings settings;
  settings.local = true;
  {
    Fixture f(d.path(), settings);
    CHECK(f.write(0, 'a', 3).ok());  // acknowledged, not flushed
    f.away();
    CHECK(f.write(1, 'b').ok());
    CHECK(f.volume->flush().ok());  // on the disk
  }
  Fixture f(d.path(), settings);
  auto ready = std::async(std::launch::async, [&] { return f.volume->wait_for_leftovers(); });
  CHECK(f.pass_time(ready).ok());
  CHECK(f.on_server(0, 3) == "aba");
}

TEST_CASE("a flush waits for the server, unless the spool's disk will do", "[spool]") {
  TemporaryDirectory d;
  {
    Fixture f(d.path());
    f.away();
    CHECK(f.write(0).ok());
    auto flush = std::async(std::launch::async, [&] { return f.volume->flush(); });
    f.clock.await_sleepers(2);  // the flush and the recovery thread
    CHECK(flush.wait_for(0s) != std::future_status::ready);
    f.back();
    CHECK(f.pass_time(flush).ok());
    CHECK(f.on_server(0, 1) == "a");
  }
  TemporaryDirectory e;
  Settings settings;
  settings.local = true;
  Fixture f(e.path(), settings);
  f.away();
  CHECK(f.write(0).ok());
  CHECK(f.volume->flush().ok());
  CHECK(f.write(1, 'b', 1, true).ok());
  CHECK(f.on_server(0, 2) == "..");
}

TEST_CASE("where replies mean stable a write into the spool does not wait, a flush does",
          "[spool]") {
  TemporaryDirectory d;
  Settings settings;
  settings.durability = Durability::kOnReply;
  Fixture f(d.path(), settings);
  f.away();
  CHECK(f.write(0).ok());
  auto flush = std::async(std::launch::async, [&] { return f.volume->flush(); });
  f.clock.await_sleepers(2);  // the flush and the recovery thread
  CHECK(flush.wait_for(0s) != std::future_status::ready);
  f.back();
  CHECK(f.pass_time(flush).ok());
  CHECK(f.on_server(0, 1) == "a");
  CHECK(f.count("flush") == 0);
}

TEST_CASE("a write with FUA waits for the server", "[spool]") {
  TemporaryDirectory d;
  Fixture f(d.path());
  f.away();
  auto write = std::async(std::launch::async, [&] { return f.write(0, 'a', 1, true); });
  f.clock.await_sleepers(2);
  CHECK(write.wait_for(0s) != std::future_status::ready);
  f.back();
  CHECK(f.pass_time(write).ok());
  CHECK(f.on_server(0, 1) == "a");
}

TEST_CASE("a flush gives up when the server takes nothing, and nothing is lost", "[spool]") {
  TemporaryDirectory d;
  Fixture f(d.path());
  f.away();
  CHECK(f.write(0).ok());
  auto flush = std::async(std::launch::async, [&] { return f.volume->flush(); });
  const Status status = f.pass_time(flush, 5s);
  CHECK(status.text() == "disk: could not flush: 1 changes of together 4608 bytes are in the "
                         "spool " + f.path + " and not on the server yet, which has taken "
                         "nothing for 300 seconds (retry-time=)");
  CHECK(f.write(1).ok());
  f.back();
  f.settle();
  CHECK(f.volume->flush().ok());
  CHECK(f.on_server(0, 2) == "aa");
}

TEST_CASE("only the newest content is sent", "[spool]") {
  TemporaryDirectory d;
  Fixture f(d.path());
  f.away();
  CHECK(f.write(0, 'a', 8).ok());
  CHECK(f.write(0, 'b', 4).ok());
  CHECK(f.write(2, 'c', 1).ok());
  const size_t before = f.server.sent().size();
  f.back();
  f.settle();
  CHECK(f.on_server(0, 8) == "bbcbaaaa");
  uint64_t bytes = 0;
  const auto sent = f.server.sent();
  for (size_t i = before; i < sent.size(); ++i) bytes += sent[i].bytes;
  CHECK(bytes <= 2 * 8 * kBlock);  // the recovery may have tried once more before
}

TEST_CASE("while it drains, writes elsewhere go to the server, those that overlap don't",
          "[spool]") {
  TemporaryDirectory d;
  Fixture f(d.path());
  f.away();
  for (uint64_t i = 0; i < 40; ++i) REQUIRE(f.write(i * 4, 'a', 2).ok());
  f.server.hold();
  const size_t before = f.server.sent().size();
  f.back();
  while (f.server.sent().size() == before) {
    f.clock.advance(1s);
    std::this_thread::sleep_for(100us);
  }
  // The question whether it answers, and all rows that go together: draining now.
  f.server.release(1 + 8);
  f.server.await_sent(before + 1 + 8 + 1);
  const size_t sent = f.server.sent().size();
  CHECK(f.write(39 * 4, 'b').ok());  // into the spool, at once
  CHECK(f.read(39 * 4, 2) == "ba");
  auto elsewhere = std::async(std::launch::async, [&] { return f.write(1000, 'x'); });
  f.server.release_all();
  CHECK(elsewhere.get().ok());
  f.settle();
  CHECK(f.server.sent().size() > sent);
  CHECK(f.count("write 4096 bytes at offset 4096000") == 1);
  CHECK(f.on_server(39 * 4, 2) == "ba");
  CHECK(f.on_server(1000, 1) == "x");
}

TEST_CASE("late copies of what failed hold newer content back, not the same again",
          "[spool]") {
  TemporaryDirectory d;
  Settings settings;
  settings.late = 150s;
  Fixture f(d.path(), settings);
  f.away({Kind::kLost, "reset"});
  CHECK(f.write(0, 'a').ok());  // its two copies may come late
  CHECK(f.write(8, 'x').ok());
  CHECK(f.write(0, 'b').ok());
  f.back();
  auto flush = std::async(std::launch::async, [&] { return f.volume->flush(); });
  while (f.on_server(8, 1) != "x") {
    f.clock.advance(100ms);
    std::this_thread::sleep_for(1ms);
  }
  CHECK(f.on_server(0, 1) == ".");
  CHECK(f.pass_time(flush).ok());
  CHECK(f.on_server(0, 1) == "b");
}

TEST_CASE("when the spool is full writers wait, and give up after the retry time", "[spool]") {
  TemporaryDirectory d;
  Settings settings;
  settings.spool_size = 128 * kBlock;
  Fixture f(d.path(), settings);
  f.away();
  uint64_t block = 0;
  auto writes = std::async(std::launch::async, [&] {
    Status status;
    for (; status.ok(); ++block) status = f.write(block * 2);
    return status;
  });
  const Status status = f.pass_time(writes, 5s);
  CHECK(status.text().find("disk: could not write: ") == 0);
  CHECK(status.text().find(" are in the spool " + f.path) != std::string::npos);
  CHECK(block > 90);
  CHECK(block < 129);
  // The same blocks again: what they replace makes room.
  auto again = std::async(std::launch::async, [&] {
    Status result;
    for (int i = 0; i < 300 && result.ok(); ++i) result = f.write(0, 'b');
    return result;
  });
  (void)f.pass_time(again, 1s).ok();
  f.back();
  f.settle();
  CHECK(f.volume->flush().ok());
  CHECK(f.on_server(2, 1) == "a");
}

TEST_CASE("content that newer content hides gives its room back", "[spool]") {
  TemporaryDirectory d;
  Settings settings;
  settings.spool_size = 256 * kBlock;
  Fixture f(d.path(), settings);
  f.away();
  for (int i = 0; i < 5000; ++i) REQUIRE(f.write(static_cast<uint64_t>(i) % 3, 'a' + i % 26).ok());
  CHECK(f.file_size() < 2 * settings.spool_size);
  f.back();
  f.settle();
  CHECK(f.on_server(0, 3) == "ghf");  // 4998, 4999, 4997
}

TEST_CASE("a ticket that is denied ends it at once, and keeps the spool", "[spool]") {
  TemporaryDirectory d;
  {
    Fixture f(d.path());
    f.away();
    CHECK(f.write(0).ok());
    {
      std::lock_guard<std::mutex> lock(f.mutex);
      f.denied = true;
    }
    f.back();
    auto flush = std::async(std::launch::async, [&] { return f.volume->flush(); });
    CHECK(f.pass_time(flush, 200ms).kind() == Kind::kDenied);
    CHECK(f.write(1).kind() == Kind::kDenied);
  }
  Fixture f(d.path());
  auto ready = std::async(std::launch::async, [&] { return f.volume->wait_for_leftovers(); });
  CHECK(f.pass_time(ready).ok());
  CHECK(f.on_server(0, 2) == "a.");
}

TEST_CASE("while a ticket that may be forgotten is waited for changes go to the spool",
          "[spool]") {
  TemporaryDirectory d;
  Settings settings;
  settings.denied_wait = 20s;
  Fixture f(d.path(), settings);
  CHECK(f.write(0).ok());
  f.forget_ticket();
  CHECK(f.write(1, 'b').ok());
  CHECK(f.on_server(0, 2) == "a.");
  // Nobody but the recovery thread asks the server now.
  for (int i = 0; i < 3; ++i) {
    f.clock.await_sleepers(1);
    const size_t before = f.server.sent().size();
    f.clock.advance(6s);
    f.server.await_sent(before + 1);
  }
  CHECK(f.write(2, 'c').ok());
  f.add_ticket();
  f.settle();
  CHECK(f.volume->flush().ok());
  CHECK(f.on_server(0, 3) == "abc");
}

TEST_CASE("a ticket that is denied for longer than denied-wait ends draining, and keeps the "
          "spool", "[spool]") {
  TemporaryDirectory d;
  Settings settings;
  settings.denied_wait = 20s;
  {
    Fixture f(d.path(), settings);
    CHECK(f.write(0).ok());
    f.forget_ticket();
    CHECK(f.write(1, 'b').ok());
    auto flush = std::async(std::launch::async, [&] { return f.volume->flush(); });
    const Status status = f.pass_time(flush, 200ms);
    CHECK(status.kind() == Kind::kDenied);
    CHECK(status.text().find("HTTP status 403") != std::string::npos);
    CHECK(status.text().find("denied-wait=") != std::string::npos);
    CHECK(f.write(2).kind() == Kind::kDenied);
    f.add_ticket();
  }
  Fixture f(d.path(), settings);
  auto ready = std::async(std::launch::async, [&] { return f.volume->wait_for_leftovers(); });
  CHECK(f.pass_time(ready).ok());
  CHECK(f.on_server(0, 2) == "ab");
}

TEST_CASE("leftovers go first, in their order, and then nothing is left", "[spool]") {
  TemporaryDirectory d;
  {
    Fixture f(d.path());
    f.away();
    CHECK(f.write(0, 'a', 8).ok());
    CHECK(f.write(4, 'b', 8).ok());
    CHECK(f.volume->zero({6 * kBlock, kBlock}, false).ok());
  }
  CHECK(fs::exists(d.path()));
  {
    Fixture f(d.path());
    auto ready = std::async(std::launch::async, [&] { return f.volume->wait_for_leftovers(); });
    CHECK(f.pass_time(ready).ok());
    CHECK(f.on_server(0, 12) == "aaaabb0bbbbb");
    // Copies that the earlier run had under way may be late.
    auto write = std::async(std::launch::async, [&] { return f.write(0, 'c'); });
    CHECK(f.pass_time(write).ok());
    CHECK(f.volume->flush().ok());
    CHECK(f.on_server(0, 1) == "c");
  }
  CHECK(fs::is_empty(d.path()));
}

TEST_CASE("with leftovers and no server the disk is not opened, and they are kept",
          "[spool]") {
  TemporaryDirectory d;
  {
    Fixture f(d.path());
    f.away();
    CHECK(f.write(0).ok());
  }
  {
    // It drains from its construction on.
    Settings settings;
    settings.away = true;
    Fixture f(d.path(), settings);
    auto ready = std::async(std::launch::async, [&] { return f.volume->wait_for_leftovers(); });
    CHECK(f.pass_time(ready, 5s).text().find("disk: could not open the disk: 1 changes") == 0);
  }
  CHECK(!fs::is_empty(d.path()));
}

TEST_CASE("a full disk fails the write alone, and what is in memory is kept", "[spool]") {
  FaultyVfs vfs;
  TemporaryDirectory d;
  Fixture f(d.path());
  CHECK(f.write(0).ok());  // in memory
  f.away();
  vfs.set(FaultyVfs::Fault::kNoSpace);
  const Status status = f.write(1, 'b');
  CHECK(status.kind() == Kind::kNoSpace);
  CHECK(status.text().find("disk: the spool " + f.path + " could not be written: ") == 0);
  f.back();
  f.settle();
  // What is in memory may have been sent a moment before the volume drains.
  auto write = std::async(std::launch::async, [&] {
    while (!f.write(2, 'c').ok()) std::this_thread::yield();
    return true;
  });
  CHECK(f.pass_time(write));
  auto flush = std::async(std::launch::async, [&] { return f.volume->flush(); });
  CHECK(f.pass_time(flush).ok());
  CHECK(f.on_server(0, 1) == "a");
  CHECK(f.on_server(2, 1) == "c");
}

TEST_CASE("a spool that fails latches the error", "[spool]") {
  FaultyVfs vfs;
  TemporaryDirectory d;
  Fixture f(d.path());
  f.away();
  CHECK(f.write(0).ok());
  vfs.set(FaultyVfs::Fault::kSyncError);
  const Status status = f.write(1);
  CHECK(status.kind() == Kind::kSpool);
  CHECK(f.volume->flush().kind() == Kind::kSpool);
  vfs.set(FaultyVfs::Fault::kNone);
  CHECK(f.write(2).kind() == Kind::kSpool);
}

TEST_CASE("a disk that is too full to drop from is waited for", "[spool]") {
  FaultyVfs vfs;
  TemporaryDirectory d;
  Fixture f(d.path());
  f.away();
  for (uint64_t block = 0; block < 40; ++block) REQUIRE(f.write(block * 2).ok());
  vfs.set(FaultyVfs::Fault::kNoSpace);
  f.back();
  auto settled = std::async(std::launch::async, [&] { f.volume->wait_for_spool(300s); });
  for (int i = 0; i < 100; ++i) {
    f.clock.advance(1s);
    std::this_thread::sleep_for(200us);
  }
  CHECK(settled.wait_for(0s) != std::future_status::ready);
  vfs.set(FaultyVfs::Fault::kNone);
  f.pass_time(settled);
  CHECK(f.write(1).ok());
  CHECK(f.on_server(78, 1) == "a");
}

TEST_CASE("with nothing in the spool, too, it is noticed that the server is back", "[spool]") {
  FaultyVfs vfs;
  TemporaryDirectory d;
  Fixture f(d.path());
  f.away();
  vfs.set(FaultyVfs::Fault::kNoSpace);
  CHECK(f.write(0).kind() == Kind::kNoSpace);
  f.back();
  auto write = std::async(std::launch::async, [&] {
    while (!f.write(0, 'b').ok()) std::this_thread::yield();
    return true;
  });
  CHECK(f.pass_time(write));
  CHECK(f.on_server(0, 1) == "b");
}

TEST_CASE("requests that fail slowly begin spooling, however short the retry time is",
          "[spool]") {
  TemporaryDirectory d;
  Settings settings;
  settings.retry_time = 30s;
  Fixture f(d.path(), settings);
  std::atomic<bool> hangs = true;
  f.server.on_request([&](const http::Request& request) -> Result<http::Reply> {
    if (!hangs) return f.answer(request);
    f.clock.advance(60s);
    return Status(Kind::kLost, "timed out");
  });
  CHECK(f.write(0).ok());
  hangs = false;
  while (f.on_server(0, 1) != "a") {
    f.clock.advance(100ms);
    std::this_thread::sleep_for(1ms);
  }
}

TEST_CASE("a flush that was under way while the log moved leaves no row behind", "[spool]") {
  TemporaryDirectory d;
  {
    Settings settings;
    settings.connections = 2;
    settings.local = true;
    Fixture f(d.path(), settings);
    std::promise<void> release;
    auto released = release.get_future().share();
    std::atomic<bool> flushing = false;
    f.server.on_request([&](const http::Request& request) -> Result<http::Reply> {
      if (request.what != "flush" || flushing.exchange(true)) return f.answer(request);
      released.wait();
      return FakeServer::ok();
    });
    CHECK(f.write(0, 'a').ok());
    auto first = std::async(std::launch::async, [&] { return f.volume->flush(); });
    while (!flushing) std::this_thread::yield();
    f.away();
    CHECK(f.write(8, 'b').ok());     // spooling
    CHECK(f.volume->flush().ok());   // what is at 0 has moved
    release.set_value();             // and is stable too
    CHECK(first.get().ok());
    f.back();
    const auto before = f.clock.now();
    f.settle();
    CHECK(f.clock.now() - before < 100s);
    CHECK(f.on_server(8, 1) == "b");
  }
  CHECK(fs::is_empty(d.path()));
}

TEST_CASE("zeroes are drained in pieces that a server can write out", "[spool]") {
  TemporaryDirectory d;
  Fixture f(d.path());
  f.away();
  for (uint64_t i = 0; i < 16; ++i)
    REQUIRE(f.volume->zero({i * 64 * kBlock, 64 * kBlock}, false).ok());
  f.back();
  f.settle();
  CHECK(f.count("zero 262144 bytes") >= 16);
  for (const auto& sent : f.server.sent())
    if (sent.what.compare(0, 5, "zero ") == 0)
      CHECK(strtoull(&sent.what[5], nullptr, 10) <= 64 * kBlock);
  CHECK(f.on_server(1023, 1) == "0");
}

TEST_CASE("a flush is patient while the server takes what is in memory", "[spool]") {
  TemporaryDirectory d;
  Settings settings;
  settings.retry_time = 30s;
  Fixture f(d.path(), settings);
  for (uint64_t i = 0; i < 50; ++i) REQUIRE(f.write(i * 2).ok());
  f.server.on_request([&](const http::Request& request) {
    f.clock.advance(1s);
    return f.answer(request);
  });
  f.server.close_idle(1);
  CHECK(f.volume->flush().ok());  // 50 requests, 50 seconds
}

TEST_CASE("a large write makes room for itself where less would not", "[spool]") {
  TemporaryDirectory d;
  Settings settings;
  settings.replay = (1 << 20) + (64 << 10);
  settings.spool_size = 8 << 20;
  Fixture f(d.path(), settings);
  for (uint64_t i = 0; i < 115; ++i) REQUIRE(f.write(1000 + i).ok());
  CHECK(f.write(0, 'b', settings.replay / 2 / kBlock).ok());
  CHECK(f.count("flush") > 0);
}

TEST_CASE("the spool drains although every tenth request fails", "[spool]") {
  TemporaryDirectory d;
  Settings settings;
  settings.late = 1ms;
  Fixture f(d.path(), settings);
  f.away();
  for (uint64_t i = 0; i < 200; ++i) REQUIRE(f.write(i * 2).ok());
  std::atomic<int> requests = 0;
  f.server.on_request([&](const http::Request& request) -> Result<http::Reply> {
    if (++requests % 10 == 0) return Status(Kind::kLost, "reset");
    return f.answer(request);
  });
  f.back();
  f.settle();
  std::string every_second;
  for (int i = 0; i < 200; ++i) every_second += "a.";
  CHECK(f.on_server(0, 400) == every_second);
}

TEST_CASE("Retry-After is honoured while spooling", "[spool]") {
  TemporaryDirectory d;
  Fixture f(d.path());
  std::atomic<int> requests = 0;
  f.server.on_request([&](const http::Request& request) -> Result<http::Reply> {
    if (++requests > 1) return f.answer(request);
    http::Reply reply = FakeServer::ok(503);
    reply.retry_after = "120";
    return reply;
  });
  CHECK(f.write(0).ok());
  for (int i = 0; i < 55; ++i) {
    f.clock.advance(1s);
    std::this_thread::sleep_for(100us);
  }
  CHECK(requests == 1);
  f.settle();
  CHECK(f.on_server(0, 1) == "a");
}

TEST_CASE("many threads, and a server that comes and goes: no error, no byte lost",
          "[spool]") {
  TemporaryDirectory d;
  Settings settings;
  settings.connections = 3;
  settings.late = 1s;
  settings.spool_size = 8 << 20;
  // Time passes 200 times too fast: a busy machine must not run out of it.
  settings.retry_time = 36000s;
  Fixture f(d.path(), settings);
  std::atomic<bool> done = false;
  std::thread time([&] {
    for (int i = 0; !done; ++i) {
      f.clock.advance(20ms);
      if (i % 40 == 0)
        f.away(i % 80 == 0 ? Status(Kind::kLost, "reset") : Status(Kind::kConnect, "refused"));
      if (i % 40 == 20) f.back();
      std::this_thread::sleep_for(100us);
    }
    f.back();
  });
  constexpr uint64_t kThreads = 6;
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::string failed;
  const auto expect = [&](const std::string& what, const std::string& wanted) {
    std::lock_guard<std::mutex> lock(mutex);
    if (what != wanted) failed += what + "\n";
  };
  std::vector<std::map<uint64_t, char>> wrote(kThreads);
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      // Blocks of its own, in between those of the others.
      for (uint64_t i = 0; i < 400; ++i) {
        const uint64_t block = (i * 7 % 50) * kThreads + t;
        const char fill = static_cast<char>('a' + i % 26);
        expect(f.write(block, fill).text(), "");
        wrote[t][block] = fill;
        if (i % 100 == 0) expect(f.volume->flush().text(), "");
        if (i % 10 == 0) expect(f.read(block, 1), std::string(1, fill));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  done = true;
  time.join();
  f.settle();
  auto flush = std::async(std::launch::async, [&] { return f.volume->flush(); });
  CHECK(f.pass_time(flush).ok());
  CHECK(failed == "");
  uint64_t wrong = 0;
  for (const auto& blocks : wrote)
    for (const auto& [block, fill] : blocks) wrong += f.on_server(block, 1)[0] == fill ? 0 : 1;
  CHECK(wrong == 0);
}
