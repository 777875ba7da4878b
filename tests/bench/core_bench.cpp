// SPDX-License-Identifier: BSD-3-Clause
//
// core-bench: how fast a volume is, on real threads, with a server that costs a
// fixed time per request and a store that costs nothing. What is left is the cost
// of the volume's own book-keeping, and how that grows with what log and rows hold.
//
//   core-bench log [RECORDS]     random writes of 512 bytes, with and without a log;
//                                the log holds that many records to begin with
//   core-bench flush [ROWS]      the same into the spool, which holds that many rows,
//                                while 0, 1 or 4 remote flushes wait for an older one
//   core-bench replay [CHANGES]  how long scattered orphans take at 5 ms per request;
//                                then the same where every seventh request is lost
//
// Prints one line per measurement, and asserts nothing: `make core-bench`, and
// compare the lines of two builds. On a machine that does other things as well
// the processor's time for a write tells more than writes per second.

#include <sys/resource.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "base/format.h"
#include "journal/spool.h"
#include "unit/disk.h"
#include "volume/volume.h"

namespace {

using namespace std::chrono_literals;
using upload::Kind;
using upload::Result;
using upload::Status;
using upload::upstream::Pool;
using upload::volume::Volume;
namespace http = upload::http;
namespace journal = upload::journal;

constexpr uint64_t kSector = 512;
constexpr uint64_t kSectors = uint64_t{1} << 24;  // a disk of 8 GiB

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What the processor has done for this process, in microseconds.
double cpu_us() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 + usage.ru_utime.tv_usec +
         usage.ru_stime.tv_usec;
}

// Keeps the processor busy, as libcurl and TLS would.
void work_for(std::chrono::nanoseconds how_long) {
  const auto now = [] {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  };
  for (const auto until = now() + how_long; now() < until;) continue;
}

void check(const Status& status) {
  if (status.ok()) return;
  fprintf(stderr, "core-bench: %s\n", status.text().c_str());
  exit(1);
}

struct Server {
  std::atomic<bool> away = false;
  std::atomic<int> restarts = 0;        // each closes the connections there are
  std::atomic<uint64_t> lose_each = 0;  // requests, of which the last is lost; 0: none
  std::atomic<uint64_t> requests = 0;
  std::chrono::microseconds work{0};  // of the processor
  std::atomic<int64_t> delay_ms = 0;
};

class Connection final : public http::Connection {
 public:
  Connection(Server& server, http::ConnectionEvents events)
      : server_(server), events_(std::move(events)) {}

  Result<http::Reply> perform(const http::Request& request) override {
    if (closed() || server_.away)
      return fail(unopened_.exchange(false) ? Kind::kConnect : Kind::kLost);
    if (unopened_) events_.opened();
    if (unopened_.exchange(false)) restarts_ = server_.restarts.load();
    const uint64_t count = ++server_.requests;
    const uint64_t each = server_.lose_each;
    work_for(server_.work);
    if (server_.delay_ms > 0) std::this_thread::sleep_for(server_.delay_ms.load() * 1ms);
    if (each > 0 && count % each == 0) return fail(Kind::kLost);
    events_.progress();
    http::Reply reply;
    reply.status = 200;
    if (request.method == http::Method::kOptions) reply.body = R"({"features": ["flush"]})";
    return reply;
  }
  bool unopened() const override { return unopened_; }
  bool closed() const override {
    return closed_ || (!unopened_ && (server_.away || restarts_ != server_.restarts));
  }
  void abort() override { closed_ = true; }

 private:
  Status fail(Kind kind) {
    closed_ = true;
    return {kind, "the server is away"};
  }

  Server& server_;
  const http::ConnectionEvents events_;
  std::atomic<bool> unopened_ = true;
  std::atomic<int> restarts_ = 0;
  std::atomic<bool> closed_ = false;
};

class NullStore final : public journal::Store {
 public:
  Result<std::vector<journal::SpoolRow>> rows() override {
    return std::vector<journal::SpoolRow>();
  }
  bool had_torn_tail() const override { return false; }
  bool empty() const override { return true; }
  journal::StoreAbout about() const override { return {}; }
  Status append(std::span<const journal::SpoolContent>) override { return {}; }
  Status drop(std::span<const uint64_t>) override { return {}; }
  Result<bool> read(uint64_t, uint64_t, void*, uint64_t) override { return true; }
  Status shrink() override { return {}; }
  Status check() override { return {}; }
};

class NullPlace final : public journal::SpoolPlace {
 public:
  const std::string& path() const override { return path_; }
  bool exists() const override { return false; }
  Result<std::unique_ptr<journal::Store>> open(const std::string&, uint64_t, bool) override {
    return std::unique_ptr<journal::Store>(std::make_unique<NullStore>());
  }
  void remove() override {}
  Result<std::vector<std::unique_ptr<journal::SpoolPlace>>> others() override {
    return std::vector<std::unique_ptr<journal::SpoolPlace>>();
  }
  Status take_over(journal::SpoolPlace&) override { return {}; }

 private:
  const std::string path_ = "nowhere";
};

struct Bench {
  Bench(uint64_t replay, bool with_spool)
      : pool(
            {4, 10s, 60s},
            [this](upload::ConnectionId, http::ConnectionEvents events) {
              return std::make_unique<Connection>(server, std::move(events));
            },
            clock) {
    upload::volume::VolumeOptions options =
        upload::testing::disk_options(kSectors * kSector / upload::testing::kBlock);
    options.replay = replay;
    options.late = 0s;
    if (with_spool)
      options.spool = std::make_shared<journal::Spool>(
          std::make_unique<NullPlace>(), std::make_unique<NullStore>(),
          std::vector<journal::SpoolRow>(), clock, 60s);
    volume = std::make_unique<Volume>(std::move(options), pool, clock, stats);
  }
  ~Bench() { upload::testing::end(*volume, pool); }

  // Each to a sector of its own, in random order.
  void fill(uint64_t changes, int threads) {
    std::atomic<uint64_t> next = 0;
    run(threads, [&](int) {
      for (uint64_t i = next++; i < changes; i = next++)
        check(volume->zero({i * 7919 % (kSectors / 2) * 2 * kSector, kSector}, false));
    });
  }
  // Random writes: says how many there are in a second, and what each costs.
  std::string measure(int threads, std::chrono::duration<double> how_long) {
    const double cpu_before = cpu_us();
    std::atomic<uint64_t> writes = 0;
    const auto start = std::chrono::steady_clock::now();
    run(threads, [&](int thread) {
      std::mt19937_64 random(thread + 1);
      const std::vector<char> data(kSector, 'x');
      for (; std::chrono::steady_clock::now() - start < how_long; ++writes)
        check(volume->write({random() % kSectors * kSector, kSector}, data.data(), false));
    });
    return upload::format("%.0f writes/s, %.1f us of the processor each",
                          writes / seconds_since(start), (cpu_us() - cpu_before) / writes);
  }
  static void run(int threads, const std::function<void(int)>& work) {
    std::vector<std::thread> all;
    for (int i = 0; i < threads; ++i) all.emplace_back(work, i);
    for (std::thread& thread : all) thread.join();
  }

  upload::SteadyClock clock;
  upload::Stats stats;
  Server server;
  Pool pool;
  std::unique_ptr<Volume> volume;
};

constexpr int kThreads = 8;
constexpr std::chrono::duration<double> kHowLong = 2s;

void bench_log(uint64_t records) {
  struct {
    const char* name;
    uint64_t replay;
    uint64_t records;
  } const kinds[] = {{"replay=0", 0, 0},
                     {"replay=128M", uint64_t{128} << 20, 0},
                     {"the same, with records", records * 4 * 512, records}};
  for (int round = 0; round < 3; ++round)
    for (const auto& kind : kinds) {
      Bench bench(kind.replay, false);
      bench.fill(kind.records, kThreads);
      bench.server.work = 60us;
      printf("log: %s (%" PRIu64 "): %s\n", kind.name, kind.records,
             bench.measure(kThreads, kHowLong).c_str());
    }
}

void bench_flush(uint64_t rows) {
  for (int flushes : {0, 1, 4}) {
    Bench bench(uint64_t{128} << 20, true);
    bench.server.away = true;
    check(bench.volume->zero({(kSectors - 1) * kSector, kSector}, false));
    std::atomic<int> failed = 0;
    std::vector<std::thread> waiting;
    for (int i = 0; i < flushes; ++i)
      waiting.emplace_back([&] { failed += bench.volume->flush().ok() ? 0 : 1; });
    std::this_thread::sleep_for(50ms);
    bench.fill(rows, kThreads);
    printf("flush: %" PRIu64 " rows, %d waiting: %s\n", rows, flushes,
           bench.measure(kThreads, kHowLong).c_str());
    bench.volume->request_stop();
    for (std::thread& thread : waiting) thread.join();
    if (failed != flushes) exit(1);
  }
}

void bench_replay(uint64_t changes) {
  for (uint64_t each : {0, 7}) {
    Bench bench(uint64_t{1} << 30, false);
    bench.fill(changes, kThreads);
    ++bench.server.restarts;  // nothing was flushed
    bench.server.delay_ms = 5;
    bench.server.lose_each = each;
    const uint64_t before = bench.server.requests;
    const auto start = std::chrono::steady_clock::now();
    check(bench.volume->flush());
    printf("replay: %" PRIu64 " changes, each %" PRIu64 "th request lost: %.2f s, %" PRIu64
           " requests\n",
           changes, each, seconds_since(start), bench.server.requests - before);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const uint64_t count = argc > 2 ? strtoull(argv[2], nullptr, 10) : 0;
  setvbuf(stdout, nullptr, _IOLBF, 0);
  if (what == "log")
    bench_log(count > 0 ? count : 100000);
  else if (what == "flush")
    bench_flush(count > 0 ? count : 100000);
  else if (what == "replay")
    bench_replay(count > 0 ? count : 3000);
  else
    return fprintf(stderr, "usage: core-bench log|flush|replay [COUNT]\n"), 2;
}
