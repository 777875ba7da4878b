// SPDX-License-Identifier: BSD-3-Clause
//
// MemoryDisk: spools in memory, for the bulk of schedules. What a transaction has changed
// is there, whole, when it returns, and survives the process and a loss of power; one that
// the process is killed in is there or not.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "journal/store.h"
#include "sim/disk.h"
#include "sim/scheduler.h"

namespace upload::sim {

class MemoryDisk final : public Disk {
 public:
  Result<std::unique_ptr<journal::SpoolPlace>> take(const journal::SpoolName& name,
                                                    const Clock& clock) override;
  uint64_t rows() override;
  bool has_stores() override;
  bool in_use() override;
  void set_full(bool full) override { full_ = full; }
  void hang_until(TimePoint when) override { hangs_until_ = when; }
  void fail_soon() override { breaks_ = true; }
  void mend() override;
  void killed() override;
  void lose_power() override {}
  bool has_lied() const override { return false; }

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
  bool full_ = false;
  TimePoint hangs_until_;
  // The next transaction fails.
  bool breaks_ = false;
};

}  // namespace upload::sim
