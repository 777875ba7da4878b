// SPDX-License-Identifier: BSD-3-Clause
//
// simulate: runs schedules, see --help. Each worker process runs a few and is
// then replaced by a fresh one: what a killed life had allocated is never freed.
//
// A failing schedule ends its worker. The parent knows which one it was, and
// prints the seed that repeats it.

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <string>

#include "sim/schedule.h"
#include "sim/sqlite_disk.h"
#include "sim_version.h"

namespace {

using upload::sim::Mode;
using upload::sim::Tally;

constexpr const char* kHelp =
    "usage: simulate [--seed N | --schedules N | --minutes N] [--mode MODE] [--trace]\n"
    "\n"
    "Runs the plugin's core on virtual time, under faults that a seed decides.\n"
    "\n"
    "  --seed N       run one schedule, such as the seed that a failure has printed\n"
    "  --schedules N  run so many, with fresh seeds (default: 1000)\n"
    "  --minutes N    run for so long\n"
    "  --mode MODE    off, replay, spool or local; all in turn if not given\n"
    "  --first N      the first seed, in place of a fresh one; then one after another\n"
    "  --jobs N       so many at a time (default: 2)\n"
    "  --trace        print what happens\n"
    "\n"
    "The trace hash is of all schedules together: the same seeds give the same one.\n"
    "Exits 0 if none has failed, 1 or 3 if one has, 2 if it does not understand.\n";

struct Options {
  std::optional<uint64_t> seed;
  uint64_t schedules = 1000;
  double minutes = 0;
  std::optional<Mode> mode;
  uint64_t first = 0;
  unsigned jobs = 2;
  bool trace = false;
};

[[noreturn]] void refuse(const std::string& why) {
  fprintf(stderr, "simulate: %s\n", why.c_str());
  exit(2);
}

uint64_t number(const std::string& option, const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    refuse(option + " " + text + ": must be a whole number from 0 to 2^64 - 1");
  return value;
}

double minutes(const std::string& text) {
  constexpr double kMost = 60 * 24 * 365;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // Neither a NaN nor an infinity is in the range.
  if (error != std::errc() || end != text.data() + text.size() || !(value > 0 && value <= kMost))
    refuse("--minutes " + text + ": must be a number, more than 0 and at most 525600");
  return value;
}

// SEED as printed: VERSION-MODE-NUMBER; or just the number.
void read_seed(const std::string& text, Options& options) {
  const size_t mode = text.find('-');
  if (mode == text.npos || mode == 0) {
    options.seed = number("--seed", text);
    return;
  }
  const size_t last = text.find('-', mode + 1);
  if (last == text.npos) refuse("--seed " + text + ": must be as a failure has printed it");
  if (text.substr(0, mode) != UPLOAD_SIM_VERSION)
    refuse("--seed " + text + ": is of version " + text.substr(0, mode) + ", and this is " +
           UPLOAD_SIM_VERSION + ": it would be another schedule");
  options.mode = upload::sim::mode_named(text.substr(mode + 1, last - mode - 1));
  if (!options.mode) refuse("--seed " + text + ": its mode must be off, replay, spool or local");
  options.seed = number("--seed", text.substr(last + 1));
}

Options read_options(int argc, char** argv) {
  Options options;
  options.first = std::random_device{}();
  std::string runs;  // the option that says how much is to be run
  std::optional<Mode> mode;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--help") {
      fputs(kHelp, stdout);
      exit(0);
    }
    if (option == "--trace") {
      options.trace = true;
      continue;
    }
    if (i + 1 == argc) refuse(option + ": is unknown, or lacks a value; see --help");
    const std::string value = argv[++i];
    if (option == "--seed" || option == "--schedules" || option == "--minutes") {
      if (!runs.empty()) refuse(option + ": cannot be given together with " + runs);
      runs = option;
    }
    if (option == "--seed") {
      read_seed(value, options);
    } else if (option == "--schedules") {
      options.schedules = number(option, value);
      if (options.schedules < 1) refuse("--schedules " + value + ": must be at least 1");
    } else if (option == "--minutes") {
      options.minutes = minutes(value);
    } else if (option == "--mode") {
      mode = upload::sim::mode_named(value);
      if (!mode) refuse("--mode " + value + ": must be off, replay, spool or local");
    } else if (option == "--first") {
      options.first = number(option, value);
    } else if (option == "--jobs") {
      options.jobs = static_cast<unsigned>(number(option, value));
      if (options.jobs < 1 || options.jobs > 64) refuse("--jobs " + value + ": must be 1 to 64");
    } else {
      refuse(option + ": is unknown; see --help");
    }
  }
  if (mode && options.mode && *mode != *options.mode)
    refuse(std::string("--mode ") + upload::sim::name_of(*mode) +
           ": the seed is of another mode");
  if (mode) options.mode = mode;
  return options;
}

Mode mode_of(const Options& options, uint64_t seed) {
  return options.mode.value_or(upload::sim::kModes[seed % std::size(upload::sim::kModes)]);
}

// Between a worker and its parent.
struct Board {
  uint64_t seed;
  Tally tally[std::size(upload::sim::kModes)];
};

void report_failure(const Options& options, uint64_t seed, int status) {
  if (WIFSIGNALED(status))
    fprintf(stderr, "simulate: ended by signal %d (%s)\n", WTERMSIG(status),
            strsignal(WTERMSIG(status)));
  fprintf(stderr, "simulate: FAILED: repeat with --trace --seed %s-%s-%llu\n", UPLOAD_SIM_VERSION,
          upload::sim::name_of(mode_of(options, seed)), static_cast<unsigned long long>(seed));
}

class Runner {
 public:
  explicit Runner(const Options& options) : options_(options), next_(options.first) {}

  int run() {
    const auto start = std::chrono::steady_clock::now();
    printf("simulate: version %s, from seed %llu\n", UPLOAD_SIM_VERSION,
           static_cast<unsigned long long>(options_.first));
    fflush(stdout);
    for (;;) {
      const double minutes =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / 60;
      const bool more =
          failures_ == 0 && (options_.minutes > 0 ? minutes < options_.minutes
                                                  : next_ - options_.first < options_.schedules);
      if (more && workers_.size() < options_.jobs) {
        start_worker();
      } else if (!workers_.empty()) {
        collect();
      } else {
        break;
      }
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    print(seconds);
    return failures_ == 0 ? 0 : 1;
  }

 private:
  static constexpr uint64_t kBatch = 64;
  struct Worker {
    Board* board;
    uint64_t first;
    uint64_t count;
  };

  void start_worker() {
    uint64_t count = kBatch;
    if (options_.minutes <= 0)
      count = std::min(count, options_.first + options_.schedules - next_);
    auto* const board = static_cast<Board*>(
        mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    if (board == MAP_FAILED) refuse("no memory");
    new (board) Board();
    fflush(stdout);
    const pid_t pid = fork();
    if (pid < 0) refuse("no process can be made");
    if (pid == 0) {
      for (uint64_t seed = next_; seed < next_ + count; ++seed) {
        board->seed = seed;
        const Mode mode = mode_of(options_, seed);
        // A schedule that never gives way is a failure too.
        alarm(60);
        board->tally[static_cast<size_t>(mode)] +=
            upload::sim::run_schedule(seed, mode, options_.trace);
      }
      fflush(stdout);
      _exit(0);
    }
    workers_.emplace(pid, Worker{board, next_, count});
    next_ += count;
  }

  void collect() {
    int status = 0;
    const pid_t pid = wait(&status);
    const auto found = workers_.find(pid);
    if (found == workers_.end()) return;
    const Board& board = *found->second.board;
    for (size_t i = 0; i < std::size(upload::sim::kModes); ++i) tally_[i] += board.tally[i];
    if (status != 0) {
      ++failures_;
      std::error_code ignored;
      std::filesystem::remove_all(upload::sim::SqliteDisk::directory_of(pid), ignored);
      report_failure(options_, board.seed, status);
    }
    munmap(found->second.board, sizeof(Board));
    workers_.erase(found);
  }

  void print(double seconds) const {
    Tally all;
    for (size_t i = 0; i < std::size(upload::sim::kModes); ++i) {
      if (tally_[i].schedules > 0)
        print_line(upload::sim::name_of(upload::sim::kModes[i]), tally_[i]);
      all += tally_[i];
    }
    print_line("all", all);
    printf("simulate: %llu failed, %.1f s, %.0f schedules a second, trace hash %016llx\n",
           static_cast<unsigned long long>(failures_), seconds,
           static_cast<double>(all.schedules) / seconds,
           static_cast<unsigned long long>(all.hash));
  }

  static void print_line(const char* name, const Tally& t) {
    printf(
        "%-6s %8llu schedules, %10llu operations (%llu failed, %llu flushes), %9llu faults, "
        "%7llu kills, %llu steps\n",
        name, static_cast<unsigned long long>(t.schedules),
        static_cast<unsigned long long>(t.operations), static_cast<unsigned long long>(t.failed),
        static_cast<unsigned long long>(t.flushes), static_cast<unsigned long long>(t.faults),
        static_cast<unsigned long long>(t.kills), static_cast<unsigned long long>(t.steps));
  }

  const Options options_;
  uint64_t next_;
  uint64_t failures_ = 0;
  std::map<pid_t, Worker> workers_;
  Tally tally_[std::size(upload::sim::kModes)];
};

}  // namespace

int main(int argc, char** argv) {
  const Options options = read_options(argc, argv);
  if (options.seed) {
    const Tally tally =
        upload::sim::run_schedule(*options.seed, mode_of(options, *options.seed), options.trace);
    printf("seed %s-%s-%llu: trace hash %016llx, %llu steps\n", UPLOAD_SIM_VERSION,
           upload::sim::name_of(mode_of(options, *options.seed)),
           static_cast<unsigned long long>(*options.seed),
           static_cast<unsigned long long>(tally.hash),
           static_cast<unsigned long long>(tally.steps));
    return 0;
  }
  return Runner(options).run();
}
