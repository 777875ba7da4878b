// SPDX-License-Identifier: BSD-3-Clause
//
// How Prometheus reads what is counted, the file that it is in, and the thread that writes it.
// Whether Prometheus' own tool takes it for well-formed is tests/metrics.sh's.

#include <sys/stat.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/redact.h"
#include "base/stats.h"
#include "catch.h"
#include "fakes.h"
#include "fixture/temporary_directory.h"
#include "process/metrics_file.h"
#include "process/metrics_publisher.h"
#include "process/metrics_text.h"

using namespace upload;
using namespace std::chrono_literals;
using upload::fixture::TemporaryDirectory;
using upload::testing::FakeClock;

namespace {

bool has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

DiskFigures disk(const std::string& name) {
  DiskFigures disk;
  disk.name = name;
  disk.volume.size = 1 << 20;
  return disk;
}

std::string content(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

size_t files_in(const std::string& directory) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory))
    ++count;
  return count;
}

// Whoever writes waits while it is held.
class Writes {
 public:
  Status write(const std::string& text) {
    std::unique_lock<std::mutex> lock(mutex_);
    texts_.push_back(text);
    changed_.notify_all();
    changed_.wait(lock, [this] { return !held_; });
    return result_;
  }
  void hold(bool held) {
    const std::lock_guard<std::mutex> lock(mutex_);
    held_ = held;
    changed_.notify_all();
  }
  void set_result(const Status& result) {
    const std::lock_guard<std::mutex> lock(mutex_);
    result_ = result;
  }
  size_t await(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!changed_.wait_for(lock, testing::kTooLong, [&] { return texts_.size() >= count; }))
      throw std::runtime_error("nothing was written");
    return texts_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> texts_;
  bool held_ = false;
  Status result_;
};

std::atomic<int> warnings = 0;

}  // namespace

// --- The text -------------------------------------------------------------

TEST_CASE("metrics have the labels of the upload and the volume", "[metrics]") {
  Figures figures;
  figures.disks = {disk("sda"), disk("s\"d\nb")};
  const std::string text = metrics_text(figures, "guest");
  CHECK(has_line(text, "# TYPE nbdkit_upload_size_bytes gauge"));
  CHECK(has_line(text, "nbdkit_upload_size_bytes{upload=\"guest\",volume=\"sda\"} 1048576"));
  CHECK(has_line(text, "nbdkit_upload_running{upload=\"guest\"} 1"));
  CHECK(text.find("volume=\"s\\\"d b\"") != std::string::npos);
}

TEST_CASE("a histogram is cumulative, in seconds, and ends with all", "[metrics]") {
  Figures figures;
  figures.disks = {disk("sda")};
  Stats stats;
  stats.add(Stats::Op::kFlush, 0, 1, 400us);
  stats.add(Stats::Op::kFlush, 0, 1, 2ms);
  stats.add(Stats::Op::kFlush, 0, 1, 100s);
  figures.disks[0].volume.requests = stats.counts();
  const std::string text = metrics_text(figures, "u");
  const std::string name = "nbdkit_upload_request_duration_seconds";
  const std::string labels = "{upload=\"u\",volume=\"sda\",operation=\"flush\"";
  CHECK(has_line(text, name + "_bucket" + labels + ",le=\"0.0005\"} 1"));
  CHECK(has_line(text, name + "_bucket" + labels + ",le=\"0.0025\"} 2"));
  CHECK(has_line(text, name + "_bucket" + labels + ",le=\"60\"} 2"));
  CHECK(has_line(text, name + "_bucket" + labels + ",le=\"+Inf\"} 3"));
  CHECK(has_line(text, name + "_count" + labels + "} 3"));
  CHECK(has_line(text, name + "_sum" + labels + "} 100.0024"));
  // Of what has not happened there is none.
  CHECK(text.find("_bucket{upload=\"u\",volume=\"sda\",operation=\"write\"") ==
        std::string::npos);
}

TEST_CASE("failures are counted by kind, and as requests", "[metrics]") {
  Figures figures;
  figures.disks = {disk("sda")};
  Stats stats;
  stats.add(Stats::Op::kWrite, 7, 1, 1ms);
  stats.add_failure(Stats::Op::kWrite, Kind::kLost);
  stats.add_failure(Stats::Op::kWrite, Kind::kLost);
  stats.add_retry();
  figures.disks[0].volume.requests = stats.counts();
  figures.disks[0].volume.retries = stats.retries();
  const std::string text = metrics_text(figures, "u");
  const std::string labels = "{upload=\"u\",volume=\"sda\",operation=\"write\"";
  CHECK(has_line(text, "nbdkit_upload_request_failures_total" + labels + ",failure=\"lost\"} 2"));
  CHECK(has_line(text, "nbdkit_upload_requests_total" + labels + "} 3"));
  CHECK(has_line(text, "nbdkit_upload_retries_total{upload=\"u\",volume=\"sda\"} 1"));
}

TEST_CASE("log, spool and claim are shown where there are any", "[metrics]") {
  Figures figures;
  figures.disks = {disk("without"), disk("with")};
  volume::VolumeFigures& its = figures.disks[1].volume;
  its.log = volume::LogFigures{.used = 3, .limit = 5, .to_send = 2};
  its.spool = volume::SpoolFigures{
      .state = volume::SpoolState::kSpooling, .rows = 4, .used = 6, .limit = {}};
  its.outage = true;
  its.outages = 2;
  its.outage_time = 1500ms;
  figures.disks[1].claim = ClaimFigures{.held = true, .left = 20s};
  figures.servers = {{"https://host:1", {.idle = 1, .in_use = 2, .opening = 1, .limit = 4}}};
  const std::string text = metrics_text(figures, "u");
  const std::string with = "{upload=\"u\",volume=\"with\"";
  for (const char* name :
       {"replay_log_used_bytes", "spool_used_bytes", "spool_state", "claim_held"})
    CHECK(text.find(std::string(name) + "{upload=\"u\",volume=\"without\"") == std::string::npos);
  CHECK(has_line(text, "nbdkit_upload_replay_log_used_bytes" + with + "} 3"));
  CHECK(has_line(text, "nbdkit_upload_replay_log_limit_bytes" + with + "} 5"));
  CHECK(has_line(text, "nbdkit_upload_unsent_bytes" + with + "} 2"));
  CHECK(has_line(text, "nbdkit_upload_spool_changes" + with + "} 4"));
  CHECK(has_line(text, "nbdkit_upload_spool_used_bytes" + with + "} 6"));
  CHECK(text.find("spool_limit_bytes") == std::string::npos);
  CHECK(has_line(text, "nbdkit_upload_spool_state" + with + ",state=\"spooling\"} 1"));
  CHECK(has_line(text, "nbdkit_upload_spool_state" + with + ",state=\"direct\"} 0"));
  CHECK(has_line(text, "nbdkit_upload_outage" + with + "} 1"));
  CHECK(has_line(text, "nbdkit_upload_outages_total" + with + "} 2"));
  CHECK(has_line(text, "nbdkit_upload_outage_seconds_total" + with + "} 1.5"));
  CHECK(has_line(text, "nbdkit_upload_claim_held" + with + "} 1"));
  CHECK(has_line(text, "nbdkit_upload_claim_left_seconds" + with + "} 20"));
  const std::string server = "{upload=\"u\",server=\"https://host:1\"";
  CHECK(has_line(text, "nbdkit_upload_connections" + server + ",state=\"in-use\"} 2"));
  CHECK(has_line(text, "nbdkit_upload_connections_limit" + server + "} 4"));
}

TEST_CASE("no secret is in a label, and no two values have the same labels", "[metrics]") {
  forget_secrets();
  register_secret("ticket-0001");
  register_secret("ticket-0002");
  Figures figures;
  figures.disks = {disk("ticket-0001"), disk("ticket-0002")};
  const std::string text = metrics_text(figures, "ticket-0001");
  CHECK(text.find("ticket-000") == std::string::npos);
  CHECK(has_line(text, "nbdkit_upload_size_bytes{upload=\"...\",volume=\"...\"} 1048576"));
  CHECK(has_line(text, "nbdkit_upload_size_bytes{upload=\"...\",volume=\"... (2)\"} 1048576"));
  std::set<std::string> seen;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);)
    if (line[0] != '#') CHECK(seen.insert(line.substr(0, line.rfind(' '))).second);
  forget_secrets();
}

TEST_CASE("each kind of failure has a label of its own", "[metrics]") {
  std::set<std::string> labels;
  for (const Kind kind : kKinds) CHECK(labels.insert(failure_label(kind)).second);
}

// --- The file -------------------------------------------------------------

TEST_CASE("a metrics file is replaced as a whole, with nothing beside it", "[metrics]") {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/guest.prom";
  const MetricsFile file(path);
  CHECK(file.title() == "guest");
  REQUIRE(file.probe().ok());
  CHECK(files_in(directory.path()) == 0);
  REQUIRE(file.replace("first\n").ok());
  std::ifstream reader(path);
  REQUIRE(file.replace("second\n").ok());
  CHECK(content(path) == "second\n");
  CHECK(files_in(directory.path()) == 1);
  // Who has opened it reads on in what it was.
  std::string line;
  std::getline(reader, line);
  CHECK(line == "first");
}

TEST_CASE("others may read a metrics file as far as the umask allows", "[metrics]") {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/m";
  const mode_t before = umask(027);
  const Status status = MetricsFile(path).replace("x");
  umask(before);
  REQUIRE(status.ok());
  struct stat about = {};
  REQUIRE(stat(path.c_str(), &about) == 0);
  CHECK((about.st_mode & 0777) == 0640);
}

TEST_CASE("what can't be a metrics file is refused, by its name", "[metrics]") {
  const TemporaryDirectory directory;
  const std::string nowhere = directory.path() + "/not/there";
  CHECK(MetricsFile(nowhere).probe().text() ==
        "metrics=" + nowhere + ": can't be written: No such file or directory");
  for (const std::string& path : {std::string("/dev/null"), directory.path()})
    CHECK(MetricsFile(path).probe().text() ==
          "metrics=" + path + ": must be a regular file, or not be there yet");
}

TEST_CASE("a metrics file that can't be replaced leaves nothing beside it", "[metrics]") {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/m";
  std::filesystem::create_directory(path);
  CHECK_FALSE(MetricsFile(path).replace("x").ok());
  CHECK(files_in(directory.path()) == 1);
}

TEST_CASE("what a killed process has left beside a metrics file goes at the start", "[metrics]") {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/m";
  std::ofstream(path + ".upload-tmp") << "half";
  const MetricsFile file(path);
  CHECK_FALSE(file.replace("x").ok());  // another process may be writing it
  CHECK(file.probe().ok());
  CHECK(files_in(directory.path()) == 0);
  CHECK(file.replace("x").ok());
}

// --- The thread -----------------------------------------------------------

TEST_CASE("metrics are written at the start, every ten seconds, and at the end", "[metrics]") {
  FakeClock clock;
  Writes writes;
  MetricsPublisher publisher({[] { return std::string("x"); },
                              [&](const std::string& text) { return writes.write(text); }},
                             clock);
  publisher.start();
  writes.await(1);
  clock.await_sleepers(1);
  clock.advance(9s);
  clock.await_sleepers(1);
  CHECK(writes.await(1) == 1);
  clock.advance(1s);
  writes.await(2);
  clock.await_sleepers(1);
  CHECK(publisher.stop());
  CHECK(writes.await(3) == 3);
  CHECK(publisher.stop());
  CHECK(writes.await(3) == 3);
}

TEST_CASE("metrics that can't be written are told of once", "[metrics]") {
  FakeClock clock;
  Writes writes;
  writes.set_result({Kind::kInvalid, "no"});
  warnings = 0;
  log::set_sinks({[](const char*) {}, [](const char*) { ++warnings; }, [](const char*) {}});
  MetricsPublisher publisher({[] { return std::string("x"); },
                              [&](const std::string& text) { return writes.write(text); }},
                             clock);
  publisher.start();
  writes.await(1);
  clock.await_sleepers(1);
  clock.advance(10s);
  writes.await(2);
  CHECK(publisher.stop());
  CHECK(warnings == 1);
  log::set_sinks({[](const char*) {}, [](const char*) {}, [](const char*) {}});
}

TEST_CASE("a file system that hangs does not keep the end, and nothing is collected after it",
          "[metrics]") {
  FakeClock clock;
  Writes writes;
  std::atomic<int> collected = 0;
  MetricsPublisher publisher({[&] {
                                ++collected;
                                return std::string("x");
                              },
                              [&](const std::string& text) { return writes.write(text); }},
                             clock);
  writes.hold(true);
  publisher.start();
  writes.await(1);
  Thread mover([&] {
    clock.await_sleepers(1);  // who stops it
    clock.advance(MetricsPublisher::kLongestEnd);
  });
  CHECK_FALSE(publisher.stop());
  mover.join();
  writes.hold(false);
  CHECK(publisher.stop());
  CHECK(collected == 1);
}
