// SPDX-License-Identifier: BSD-3-Clause
//
// SqliteDisk: the plugin's own spool files, in a directory of their own, over a PowerVfs.
// The process works in that directory meanwhile, so that no name depends on where it is.

#pragma once

#include <string>
#include <vector>

#include "sim/disk.h"
#include "sim/power_vfs.h"

namespace upload::sim {

class SqliteDisk final : public Disk {
 public:
  SqliteDisk();
  ~SqliteDisk() override;
  SqliteDisk(const SqliteDisk&) = delete;
  SqliteDisk& operator=(const SqliteDisk&) = delete;

  // Of a process that may have ended without removing it.
  [[nodiscard]] static std::string directory_of(int pid);

  Result<std::unique_ptr<journal::SpoolPlace>> take(const journal::SpoolName& name,
                                                    const Clock& clock) override;
  uint64_t rows() override;
  bool has_stores() override { return !stores().empty(); }
  bool in_use() override { return !descriptors().empty(); }
  void set_full(bool full) override { vfs_.full = full; }
  void hang_until(TimePoint when) override { vfs_.hangs_until = when; }
  void fail_soon() override;
  void mend() override;
  void killed() override;
  void lose_power() override;
  bool has_lied() const override { return vfs_.has_lied(); }

 private:
  [[nodiscard]] static std::vector<std::string> stores();
  // Of files in the directory.
  [[nodiscard]] std::vector<int> descriptors() const;

  PowerVfs vfs_;
  const std::string directory_;
};

}  // namespace upload::sim
