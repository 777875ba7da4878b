// SPDX-License-Identifier: BSD-3-Clause
//
// Disk: the directory in which spools are, in memory, for the bulk of
// schedules. What a transaction has changed is there, whole, when it returns,
// and survives the process; one that the process is killed in is there or not.
//
// The disk may be full for a while, or fail for good.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "journal/store.h"
#include "sim/scheduler.h"

namespace upload::sim {

class Disk {
 public:
  // As SpoolFile::lock().
  [[nodiscard]] Result<std::unique_ptr<journal::SpoolPlace>> take(const std::string& directory,
                                                                  const journal::SpoolName& name);
  // The process that held the places is gone.
  void unlock_all();

  bool full = false;
  bool broken = false;

  [[nodiscard]] uint64_t rows() const;
  [[nodiscard]] uint64_t bytes() const;

 private:
  friend class MemoryStore;
  friend class MemoryPlace;
  struct Row {
    journal::SpoolRow row;
    std::vector<char> data;
  };
  struct File {
    bool locked = false;
    bool exists = false;
    std::string url;
    uint64_t size = 0;
    std::map<uint64_t, Row> rows;  // by id
  };
  std::map<std::pair<std::string, std::string>, File> files_;  // by path and host of the URL
};

}  // namespace upload::sim
