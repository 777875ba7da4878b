// SPDX-License-Identifier: BSD-3-Clause
//
// An NBD client of the soak: keeps up to some number of random requests in
// flight, tells the model of them, and compares what it reads, and after each
// flush the stable image, with the model.
//
// The sequence of its requests depends on its stream of random numbers only,
// not on what becomes of them; after kGiveUp failures in a row it ends.
// It asks for parts of blocks, too, whatever the server's block size.
// It leaves its NBD connection open, without anything in flight.

#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "fixture/model.h"
#include "fixture/nbdkit.h"
#include "server.h"
#include "soak/chaos.h"
#include "soak/random.h"

namespace upload::soak {

using fixture::Cells;
using fixture::Geometry;
using fixture::Model;
using fixture::Wrong;

// What a round has found out. Thread safe.
class Findings {
 public:
  // A violation of what is promised.
  void lost(uint64_t cells, const std::string& text);
  void violated(const std::string& text);

  std::atomic<uint64_t> operations = 0;
  std::atomic<uint64_t> failed = 0;
  std::atomic<uint64_t> flushes = 0;  // that succeeded
  std::atomic<uint64_t> stale_reads = 0;

  [[nodiscard]] uint64_t lost_cells() const { return lost_cells_; }
  [[nodiscard]] uint64_t violations() const { return violations_; }  // lost() too
  [[nodiscard]] std::vector<std::string> texts() const;

 private:
  std::atomic<uint64_t> lost_cells_ = 0;
  std::atomic<uint64_t> violations_ = 0;
  mutable std::mutex mutex_;
  std::vector<std::string> texts_;  // the first ones
};

// How a round's clients behave. In percent, and counts.
struct Style {
  uint64_t operations = 500;  // of each client
  uint64_t fua = 5;
  uint64_t flush = 2;
  uint64_t read = 35;
  uint64_t zero = 15;
  uint64_t hot = 50;   // requests that meet in a small place
  uint64_t large = 3;  // requests of up to 1 MiB
  bool late = false;   // the server may apply a change after its connection has gone
};

// What all clients of one disk have in common.
struct Shared {
  std::string name;     // of the export, and of the ticket
  bool errors_allowed;  // the plugin need not survive what happens
  bool stale_reads_allowed;
  bool stable_on_reply;  // what is acknowledged is stable, with FUA or without
  bool flush_is_local;   // what is flushed may be in the spool only
  Style style;
  testserver::Server& server;
  Model& model;
  Findings& findings;
  // nbdkit is killed, or will be in a moment: no client is to be answered.
  const std::atomic<bool>& killed;

  // Tells of the cells that are not as they have to be.
  void judge_stable(const std::vector<Wrong>& wrong, const char* when);
  // The cell's history, as the clients and as the server have seen it.
  [[nodiscard]] std::string describe(const Wrong& wrong) const;
};

class Client {
 public:
  Client(const fixture::Nbdkit& nbdkit, Shared& shared, Random random);

  void run();
  // The last flush of a round: says whether it succeeded.
  bool flush();
  // Reads the whole disk.
  void read_all();

  // What it waits for, for the message of a watchdog. Any thread.
  [[nodiscard]] std::string doing() const;

 private:
  enum class What { write, zero, read, flush };
  struct Slot {
    What what = What::read;
    Cells cells;
    Model::Time began = 0;
    bool fua = false;
    bool busy = false;
    bool done = false;
    int error = 0;
    std::vector<char> buffer;
  };
  static constexpr uint64_t kGiveUp = 25;
  static constexpr size_t kMostDepth = 8;

  Cells random_cells();
  void choose(Slot& slot);
  void issue(Slot& slot);
  void wait();
  void collect(Slot& slot);
  void check_read(const Slot& slot);
  void check_after_flush(uint64_t seed);
  void check_stable(Cells cells);

  Shared& shared_;
  Random random_;
  fixture::NbdClient nbd_;
  size_t depth_;
  uint64_t failures_in_a_row_ = 0;
  bool dead_ = false;
  mutable std::mutex mutex_;  // what doing() reads of the slots
  std::vector<Slot> slots_;
};

}  // namespace upload::soak
