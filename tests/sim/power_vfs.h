// SPDX-License-Identifier: BSD-3-Clause
//
// PowerVfs: a file system under SQLite (https://www.sqlite.org/vfs.html) whose
// files are real ones, and which knows what of them was synced. It can
//   - lose power: of what was not synced any subset of sectors is left, in any
//     order, and a file whose making was not synced may be gone;
//   - be full: what a write would add to a file does not fit;
//   - fail: a write, a read, or a sync, once. After a sync that failed the system
//     believes that the data is on the disk, and it is not: a later sync that
//     succeeds does not cover it (as Linux does it).
//
// Writes and syncs take time, so that other fibers run, and the process may be killed,
// in the middle of a transaction. It is the default file system of the process
// while the object exists; one at a time, on the fibers' thread.

#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "sim/scheduler.h"

namespace upload::sim {

class PowerVfs {
 public:
  enum class Fault { kNone, kWrite, kRead, kSync };

  PowerVfs();
  ~PowerVfs();
  PowerVfs(const PowerVfs&) = delete;
  PowerVfs& operator=(const PowerVfs&) = delete;

  bool full = false;
  // No sync ends before.
  TimePoint hangs_until;
  // Fails once, when so many more operations of any kind are done.
  void fail(Fault fault, uint64_t operations);
  void forget_faults() { fail(Fault::kNone, 0); }

  // The process is gone: its files are closed, with what was written.
  void close_all();
  // After close_all(). What is left of the files in `directory` is what was synced, and
  // what of the rest chance has left.
  void lose_power(const std::string& directory);
  // A sync has failed: what it was to make durable may have been lost since.
  [[nodiscard]] bool has_lied() const { return has_lied_; }

 private:
  friend struct PowerCalls;
  struct Disk;
  [[nodiscard]] bool due(Fault fault);

  std::unique_ptr<Disk> disk_;
  Fault fault_ = Fault::kNone;
  uint64_t operations_left_ = 0;
  bool has_lied_ = false;
};

}  // namespace upload::sim
