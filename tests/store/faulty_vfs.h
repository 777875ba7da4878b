// SPDX-License-Identifier: BSD-3-Clause
//
// A file system under SQLite that fails when a test says so
// (https://www.sqlite.org/vfs.html). It is the default one of the process
// while the object exists.
//
// Operations that change a file or make it durable (write, truncate, sync,
// delete) are counted. Thread safe.

#pragma once

#include <cstdint>
#include <functional>

namespace upload::testing {

class FaultyVfs {
 public:
  enum class Fault {
    kNone,
    kCrash,     // this and all later operations do nothing, and fail
    kNoSpace,   // writes fail as on a disk that is full
    kSyncError  // syncs fail
  };

  FaultyVfs();
  ~FaultyVfs();
  FaultyVfs(const FaultyVfs&) = delete;
  FaultyVfs& operator=(const FaultyVfs&) = delete;

  // From the operation with that number on, counted from now, from 0.
  void set(Fault fault, uint64_t from = 0);
  // From now on syncs that succeed are not done, which only a power failure could tell.
  // In place of each, if it is not null, the function is called.
  void skip_syncs(std::function<void()> instead = nullptr);
  // Operations since set().
  [[nodiscard]] uint64_t operations() const;
};

}  // namespace upload::testing
