// SPDX-License-Identifier: BSD-3-Clause
//
// The life of a round:
//
//   set up       server, nbdkit, clients; nothing goes wrong yet
//   run          clients and chaos, each a thread, until all clients are done:
//                with their requests, or, where errors are allowed, with failing. In mode
//                spool this happens several times, in several lives of nbdkit,
//                of which all but the last end with SIGKILL
//   end          chaos stops, the server serves; a last flush, which may fail
//                where errors are allowed only; the stable image against the model
//
// Streams of random numbers: 0 the round's parameters, 1 chaos, from 2 clients.

#include "soak/round.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "fixture/model.h"
#include "fixture/nbdkit.h"
#include "fixture/spool_rows.h"
#include "soak/client.h"

namespace upload::soak {

using namespace std::chrono_literals;

namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr auto kRetryTime = 60s;
constexpr auto kHang = 120s;

// Calls `on_hang` unless it goes away in time.
class HangGuard {
 public:
  HangGuard(std::chrono::seconds limit, std::function<void()> on_hang)
      : thread_([this, limit, call = std::move(on_hang)] {
          std::unique_lock lock(mutex_);
          if (!done_changed_.wait_for(lock, limit, [this] { return done_; })) call();
        }) {}
  ~HangGuard() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    done_changed_.notify_all();
    thread_.join();
  }
  HangGuard(const HangGuard&) = delete;
  HangGuard& operator=(const HangGuard&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable done_changed_;
  bool done_ = false;
  std::thread thread_;  // last: it uses the others
};

testserver::ServerOptions server_options(Random& random, const fixture::TargetKind& target) {
  testserver::ServerOptions options;
  options.protocol = target.protocol;
  options.idle_close = 0ms;
  options.event_limit = 100'000;
  // As Apache has it.
  if (target.stable_on_reply && random.percent(30)) options.requests_per_connection = 100;
  return options;
}

Style random_style(Random& random, const RoundOptions& options) {
  static constexpr uint64_t kFua[] = {2, 2, 10, 50, 100};
  static constexpr uint64_t kFlush[] = {1, 2, 5, 15};
  Style style;
  const bool survivable = options.survivable();
  style.operations = survivable ? random.between(300, 2000) : random.between(50, 1000);
  if (options.operations > 0) style.operations = options.operations;
  style.fua = random.any_of(kFua);
  style.flush = random.any_of(kFlush);
  style.read = random.between(5, 60);
  style.zero = random.between(0, 30);
  style.hot = random.between(0, 70);
  style.large = random.between(0, 6);
  // Late changes are of interest where something is written over them, and
  // where the first failure is not the end: nothing unflushed.
  style.late =
      (options.mode == Mode::off || options.target->stable_on_reply) && random.percent(30);
  if (style.late) {
    style.fua = 100;
    style.hot = 70;
  }
  return style;
}

// The plugin's parameters. Everything that waits is short, so that stalls are.
std::vector<std::string> random_keys(Random& random, const RoundOptions& options,
                                     const std::string& spool, bool local) {
  static constexpr const char* kTimeouts[] = {"0.5", "0.7", "1"};
  static constexpr const char* kConnectTimeouts[] = {"0.5", "1"};
  static constexpr const char* kIdleTimeouts[] = {"0.05", "0.3", "3600"};
  static constexpr const char* kReplay[] = {"64M", "64M", "16M"};
  // A fault that meets the probe makes every change stable at once: not in most rounds.
  static constexpr const char* kDirect[] = {"true", "true", "true", "true",
                                            "true", "true", "auto", "false"};
  std::vector<std::string> keys = {
      std::string("timeout=") + random.any_of(kTimeouts),
      std::string("connect-timeout=") + random.any_of(kConnectTimeouts),
      std::string("idle-timeout=") + random.any_of(kIdleTimeouts),
      "connections=" + std::to_string(random.between(1, 8))};
  const char* const replay = random.any_of(kReplay);
  if (options.mode != Mode::off) keys.push_back(std::string("replay=") + replay);
  if (options.survivable()) keys.push_back("retry-time=" + std::to_string(kRetryTime.count()));
  if (options.mode == Mode::spool) {
    static constexpr const char* kSizes[] = {"64M", "256M", "10G"};
    keys.push_back("spool=" + spool);
    keys.push_back(std::string("spool-size=") + random.any_of(kSizes));
    keys.push_back(std::string("spool-flush=") + (local ? "local" : "remote"));
  }
  keys.push_back(std::string("direct=") + random.any_of(kDirect));
  if (options.target == &fixture::kAzure && random.percent(30))
    keys.emplace_back("checksum=true");
  keys.insert(keys.end(), options.keys.begin(), options.keys.end());
  return keys;
}

// Kills nbdkit when the clients have done so many operations, or are done.
class Killer {
 public:
  Killer(fixture::Nbdkit& nbdkit, const Findings& findings, std::atomic<bool>& killed,
         uint64_t operations)
      : thread_([&nbdkit, &findings, &killed, operations, this] {
          while (!stop_ && findings.operations < operations) std::this_thread::sleep_for(1ms);
          killed = true;
          nbdkit.crash();
        }) {}
  // The clients are done.
  void join() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_ = false;
  std::thread thread_;  // last: it uses the others
};

class Round {
 public:
  explicit Round(const RoundOptions& options);

  RoundResult run(const std::function<void(const std::string&)>& on_hang);

 private:
  void start_nbdkit();
  void live(uint64_t life);
  void end();
  void end_disk(size_t number);
  void check_all(Shared& disk);
  [[nodiscard]] std::string situation() const;
  [[nodiscard]] RoundResult result(const Chaos& chaos) const;

  const RoundOptions options_;
  Random random_;
  const uint64_t size_;
  // Of nbdkit.
  const uint64_t lives_;
  const bool local_flush_;
  const bool write_back_;
  const uint64_t number_of_disks_;
  const uint64_t number_of_clients_;  // of all disks together, each at least one
  Style style_;
  const fixture::TemporaryDirectory spool_;
  testserver::Server server_;
  std::vector<std::unique_ptr<Model>> models_;
  Findings findings_;
  std::atomic<bool> killed_ = false;
  std::vector<std::unique_ptr<Shared>> disks_;
  std::string description_;
  std::vector<std::string> keys_;
  std::string earlier_log_;
  uint64_t kills_ = 0;
  std::unique_ptr<fixture::Nbdkit> nbdkit_;
  std::vector<std::unique_ptr<Client>> clients_;
};

Round::Round(const RoundOptions& options)
    : options_(options),
      random_(options.seed, 0),
      size_(kMiB * (options.survivable() ? random_.between(8, 64) : random_.between(1, 8))),
      lives_(options.mode == Mode::spool ? random_.between(1, 4) : 1),
      local_flush_(options.mode == Mode::spool && random_.percent(60)),
      write_back_(options.mode != Mode::off && random_.percent(40)),
      number_of_disks_(options.disks > 0 ? options.disks : random_.between(1, 3)),
      number_of_clients_(std::max(number_of_disks_,
                                  options.clients > 0 ? options.clients : random_.between(2, 6))),
      style_(random_style(random_, options)),
      server_(server_options(random_, *options.target)) {
  server_.start();
  style_.operations = (style_.operations + lives_ - 1) / lives_;
  keys_ = {"cafile=" + server_.ca_file(), std::string("target=") + options_.target->name};
  for (uint64_t i = 0; i < number_of_disks_; ++i) {
    const std::string name = "disk" + std::to_string(i);
    testserver::TicketOptions ticket;
    ticket.id = name;
    ticket.size_bytes = size_;
    server_.add_ticket(ticket);
    models_.push_back(std::make_unique<Model>(size_, false, options_.target->tears));
    disks_.push_back(std::make_unique<Shared>(
        Shared{name, !options.survivable(), !options.survivable() || !options.strict_reads,
               options_.target->stable_on_reply && options_.mode != Mode::spool && !write_back_,
               local_flush_, style_, server_, *models_.back(), findings_, killed_}));
    keys_.push_back("export=" + name);
    keys_.push_back("url=" + server_.url(name));
  }
  // Later than the next request, sooner than the end of the round.
  if (style_.late) server_.set_late_apply(std::chrono::milliseconds(options.late_ms));
  description_ = std::to_string(number_of_disks_) + " disks of " + std::to_string(size_ / kMiB) +
                 " MiB, " + std::to_string(number_of_clients_) + " clients, " +
                 std::to_string(lives_) + " lives, fua=" + std::to_string(style_.fua) +
                 "% flush=" + std::to_string(style_.flush) + "%" + (style_.late ? " late" : "");
  for (const std::string& key : random_keys(random_, options, spool_.path(), local_flush_)) {
    keys_.push_back(key);
    description_ += " " + key;
  }
  if (write_back_) {
    keys_.emplace_back("write-back=true");
    description_ += " write-back=true";
  }
  start_nbdkit();
}

// A start does not survive every fault: it is tried again.
void Round::start_nbdkit() {
  const auto limit = std::chrono::steady_clock::now() + kRetryTime;
  do {
    if (nbdkit_) earlier_log_ += nbdkit_->log();
    nbdkit_ =
        std::make_unique<fixture::Nbdkit>(keys_, std::vector<std::string>{"--exit-with-parent"});
  } while (!nbdkit_->serves() && std::chrono::steady_clock::now() < limit);
  if (!nbdkit_->serves()) throw std::runtime_error("nbdkit does not start: " + nbdkit_->log());
  clients_.clear();
}

// The clients do their part, until the end of nbdkit.
void Round::live(uint64_t life) {
  const bool last = life + 1 == lives_;
  killed_ = false;
  for (uint64_t c = 0; c < number_of_clients_; ++c)
    clients_.push_back(
        std::make_unique<Client>(*nbdkit_, *disks_[c % number_of_disks_],
                                 Random(options_.seed, 2 + c + life * number_of_clients_)));
  std::unique_ptr<Killer> killer;
  if (!last) {
    const uint64_t all = style_.operations * number_of_clients_;
    killer = std::make_unique<Killer>(*nbdkit_, findings_, killed_,
                                      findings_.operations + random_.between(1, all));
  }
  std::vector<std::thread> threads;
  for (const auto& client : clients_) threads.emplace_back([&client] { client->run(); });
  for (std::thread& thread : threads) thread.join();
  if (last) return;
  killer->join();
  ++kills_;
  for (const auto& model : models_) model->crashed();
  clients_.clear();
  start_nbdkit();
}

RoundResult Round::run(const std::function<void(const std::string&)>& on_hang) {
  const auto limit = kHang * lives_ + (options_.survivable() ? kRetryTime : 0s);
  std::unique_ptr<Chaos> chaos;
  {
    const HangGuard guard(limit, [&] { on_hang(situation()); });
    chaos = std::make_unique<Chaos>(server_, *options_.target, options_.survivable(),
                                    Random(options_.seed, 1));
    for (uint64_t life = 0; life < lives_; ++life) live(life);
    chaos->stop();
    end();
    clients_.clear();
    try {
      nbdkit_->stop();
    } catch (const std::exception& e) {
      findings_.violated(e.what());
    }
  }
  if (fixture::spool_rows(spool_.path()) != 0)
    findings_.violated("something is left in the spool");
  // Once more: nothing that comes after the last request may take anything away.
  for (const auto& disk : disks_) check_all(*disk);
  return result(*chaos);
}

// What is left of the day: a flush that tells the truth.
void Round::end() {
  for (size_t number = 0; number < disks_.size(); ++number) end_disk(number);
  if (!options_.survivable() && server_.counters().overlapping_changes > 0)
    findings_.violated("overlapping changes were under way at the same time");
}

void Round::end_disk(size_t number) {
  Client& client = *clients_[number];
  Shared& disk = *disks_[number];
  const bool flushed = client.flush();
  if (flushed && !local_flush_ && server_.unflushed_bytes(disk.name) > 0 && findings_.failed == 0)
    findings_.violated("something is unflushed after the last flush");
  if (flushed) client.read_all();
  if (!local_flush_) check_all(disk);
}

void Round::check_all(Shared& disk) {
  const Cells all = {0, disk.model.geometry().cells()};
  const std::vector<Model::Time> floors = disk.model.floors(all);
  const std::vector<char> stable = server_.read_stable(disk.name, 0, size_);
  disk.judge_stable(disk.model.check_stable(all, floors, stable), "in the end");
}

std::string Round::situation() const {
  std::string text = description_ + "\nserver: " + to_json(server_.counters());
  for (size_t c = 0; c < clients_.size(); ++c)
    text += "\nclient " + std::to_string(c) + " waits for: " + clients_[c]->doing();
  text += "\nnbdkit's log:\n" + nbdkit_->log();
  // Its answers are awaited no more.
  const std::string socket = nbdkit_->socket();
  std::ifstream file(socket.substr(0, socket.rfind('/')) + "/pid");
  pid_t pid = 0;
  if (file >> pid && pid > 1) kill(pid, SIGKILL);
  return text;
}

RoundResult Round::result(const Chaos& chaos) const {
  RoundResult result;
  result.style = description_;
  result.mischief = chaos.happened();
  if (kills_ > 0) result.mischief["kill_nbdkit"] = kills_;
  result.faults = chaos.total() + kills_;
  result.operations = findings_.operations;
  result.failed = findings_.failed;
  result.flushes = findings_.flushes;
  result.stale_reads = findings_.stale_reads;
  result.bytes_lost = server_.counters().bytes_lost;
  result.lost_cells = findings_.lost_cells();
  result.violations = findings_.violations();
  result.texts = findings_.texts();
  result.log = earlier_log_ + nbdkit_->log();
  return result;
}

}  // namespace

RoundResult run_round(const RoundOptions& options,
                      const std::function<void(const std::string&)>& on_hang) {
  return Round(options).run(on_hang);
}

}  // namespace upload::soak
