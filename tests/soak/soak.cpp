// SPDX-License-Identifier: BSD-3-Clause
//
// The soak: random I/O from several clients while everything goes wrong that
// can, round after round, until time, rounds or faults are used up.
//
//   soak [--target imageio|azure|webdav] [--mode off|replay|spool] [--seed N] [--rounds N] [--seconds N] [--faults N]
//        [--disks N] [--clients N] [--operations N] [--late MS] [--stale-reads]
//        [--key KEY=VALUE]... [--verbose]
//
// It ends after the first round that reaches one of the limits (10 seconds if
// there is none). Round k has the seed N + k, so `--seed N+k --rounds 1`
// repeats it; a violation prints that command. --stale-reads: with replay a
// read of content that a lost connection took away for a while is only
// counted. --late: how much later the server applies a change whose connection has gone, in the
// rounds in which it does; less than the shortest time-out, 500. --key is passed on to the plugin, after all others.
//
// Run it with tests/environment of a build sourced. The exit status is 0 when
// nothing was violated. With $UPLOAD_TEST_COUNTS it adds its line to that file.

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "soak/round.h"

using namespace upload::soak;

namespace {

struct Options {
  uint64_t rounds = 0;  // these three: 0 is no limit
  uint64_t seconds = 0;
  uint64_t faults = 0;
  bool verbose = false;
  RoundOptions round;
};

struct Totals {
  uint64_t rounds = 0;
  uint64_t failed_rounds = 0;
  uint64_t clean_rounds = 0;  // without an error that a client has seen
  uint64_t faults = 0;
  uint64_t operations = 0;
  uint64_t lost = 0;
  uint64_t hangs = 0;
};

uint64_t number(const std::string& option, const char* text) {
  char* end = nullptr;
  errno = 0;
  const uint64_t value = strtoull(text, &end, 10);
  if (*text < '0' || *text > '9' || *end != 0 || errno != 0)
    throw std::runtime_error(option + " " + text + ": a number is needed");
  return value;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--verbose") {
      options.verbose = true;
      continue;
    }
    if (option == "--stale-reads") {
      options.round.strict_reads = false;
      continue;
    }
    if (i + 1 == argc) throw std::runtime_error(option + ": unknown, or its value is missing");
    const char* const value = argv[++i];
    if (option == "--seed")
      options.round.seed = number(option, value);
    else if (option == "--rounds")
      options.rounds = number(option, value);
    else if (option == "--seconds")
      options.seconds = number(option, value);
    else if (option == "--faults")
      options.faults = number(option, value);
    else if (option == "--disks")
      options.round.disks = number(option, value);
    else if (option == "--clients")
      options.round.clients = number(option, value);
    else if (option == "--operations")
      options.round.operations = number(option, value);
    else if (option == "--late")
      options.round.late_ms = number(option, value);
    else if (option == "--key")
      options.round.keys.emplace_back(value);
    else if (option == "--target" && upload::fixture::find_target(value) != nullptr)
      options.round.target = upload::fixture::find_target(value);
    else if (option == "--mode" && strcmp(value, "off") == 0)
      options.round.mode = Mode::off;
    else if (option == "--mode" && strcmp(value, "replay") == 0)
      options.round.mode = Mode::replay;
    else if (option == "--mode" && strcmp(value, "spool") == 0)
      options.round.mode = Mode::spool;
    else
      throw std::runtime_error(option + " " + value + ": unknown");
  }
  if (options.rounds == 0 && options.seconds == 0 && options.faults == 0) options.seconds = 10;
  return options;
}

const char* name_of(Mode mode) {
  return mode == Mode::spool ? "spool" : mode == Mode::replay ? "replay" : "off";
}

// The command that does the same round again.
std::string repeat(const RoundOptions& round) {
  std::string text = std::string("soak --target ") + round.target->name + " --mode " +
                     name_of(round.mode) + " --seed " + std::to_string(round.seed) +
                     " --rounds 1";
  if (round.clients > 0) text += " --clients " + std::to_string(round.clients);
  if (round.operations > 0) text += " --operations " + std::to_string(round.operations);
  if (round.late_ms != RoundOptions().late_ms) text += " --late " + std::to_string(round.late_ms);
  if (!round.strict_reads) text += " --stale-reads";
  for (const std::string& key : round.keys) text += " --key " + key;
  return text + " --verbose";
}

// The last lines of a log.
std::string tail(const std::string& log) {
  size_t at = log.size();
  for (int lines = 0; lines < 25 && at != std::string::npos && at > 0; ++lines)
    at = log.rfind('\n', at - 1);
  return at == std::string::npos || at == 0 ? log : log.substr(at + 1);
}

void print(const RoundOptions& round, const RoundResult& result, bool verbose) {
  const auto count = [&](const char* kind) {
    const auto found = result.mischief.find(kind);
    return found == result.mischief.end() ? 0 : found->second;
  };
  printf("seed %" PRIu64 ": %" PRIu64 " faults in %zu kinds, %" PRIu64 " restarts, %" PRIu64
         " outages, %" PRIu64 " kills, %" PRIu64 " operations, %" PRIu64 " failed, %" PRIu64
         " flushes, %" PRIu64 " stale reads, %" PRIu64 " bytes lost by the server: %s\n",
         round.seed, result.faults, result.mischief.size(), count("restart"),
         count("outage") + count("outage_of_accept"), count("kill_nbdkit"), result.operations,
         result.failed, result.flushes, result.stale_reads, result.bytes_lost,
         result.violations == 0 ? "ok" : "VIOLATED");
  if (verbose || result.violations > 0) {
    printf("  %s\n ", result.style.c_str());
    for (const auto& [name, times] : result.mischief) printf(" %s=%" PRIu64, name.c_str(), times);
    printf("\n");
  }
  if (result.violations > 0) {
    for (const std::string& text : result.texts) printf("  %s\n", text.c_str());
    printf("  nbdkit's log ends with:\n%s", tail(result.log).c_str());
    printf("  repeat with: %s\n", repeat(round).c_str());
  } else if (verbose) {
    printf("%s", tail(result.log).c_str());
  }
  fflush(stdout);
}

// The last line, and the line for make check. What main() returns.
int conclude(const Totals& totals, bool failed) {
  printf("soak: %" PRIu64 " rounds, %" PRIu64 " faults, %" PRIu64 " operations, %" PRIu64
         " lost, %" PRIu64 " hangs\n",
         totals.rounds, totals.faults, totals.operations, totals.lost, totals.hangs);
  if (totals.failed_rounds > 0)
    printf("soak: %" PRIu64 " rounds broke a promise\n", totals.failed_rounds);
  fflush(stdout);
  if (const char* path = getenv("UPLOAD_TEST_COUNTS")) {
    if (FILE* file = fopen(path, "a")) {
      fprintf(file, failed ? "soak 0 1 0\n" : "soak 1 0 0\n");
      fclose(file);
    }
  }
  return failed ? 1 : 0;
}

int soak(Options options) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  Totals totals;
  printf("soak: target %s, mode %s, from seed %" PRIu64 " on\n", options.round.target->name,
         name_of(options.round.mode), options.round.seed);
  const auto on_hang = [&](const std::string& situation) {
    printf("seed %" PRIu64 ": HANGS\n%s\n  repeat with: %s\n", options.round.seed,
           situation.c_str(), repeat(options.round).c_str());
    ++totals.rounds;
    ++totals.failed_rounds;
    ++totals.hangs;
    // The threads that hang can't be joined.
    _exit(conclude(totals, true));
  };
  for (;; ++options.round.seed) {
    const auto elapsed = Clock::now() - start;
    if ((options.rounds > 0 && totals.rounds >= options.rounds) ||
        (options.seconds > 0 && elapsed >= std::chrono::seconds(options.seconds)) ||
        (options.faults > 0 && totals.faults >= options.faults))
      break;
    const RoundResult result = run_round(options.round, on_hang);
    ++totals.rounds;
    totals.failed_rounds += result.violations > 0 ? 1 : 0;
    totals.clean_rounds += result.failed == 0 ? 1 : 0;
    totals.faults += result.faults;
    totals.operations += result.operations;
    totals.lost += result.lost_cells;
    print(options.round, result, options.verbose);
  }
  printf("soak: %" PRIu64 " of %" PRIu64 " rounds without an error that a client has seen\n",
         totals.clean_rounds, totals.rounds);
  return conclude(totals, totals.failed_rounds > 0);
}

}  // namespace

int main(int argc, char** argv) {
  // A server that closes a connection must not end the test.
  signal(SIGPIPE, SIG_IGN);
  try {
    return soak(parse(argc, argv));
  } catch (const std::exception& e) {
    fprintf(stderr, "soak: %s\n", e.what());
    return conclude({}, true);
  }
}
