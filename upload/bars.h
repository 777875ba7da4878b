// SPDX-License-Identifier: BSD-3-Clause
//
// How the progress of disks is written: as bars at the foot of a terminal, or as a line for a
// log.

#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "console.h"
#include "disk_state.h"
#include "progress.h"

namespace nbdupload {

// One disk, as it is displayed.
struct DiskShown {
  std::string name;
  DiskState state = DiskState::kWaiting;
  Progress progress;
};

// All disks together.
struct Totals {
  size_t disks = 0, ended = 0, failed = 0;
  uint64_t size = 0, done = 0;  // in bytes
  std::optional<double> rate;   // bytes a second

  [[nodiscard]] int percent() const;
  [[nodiscard]] std::optional<std::chrono::seconds> left() const;
};
[[nodiscard]] Totals totals_of(const std::vector<DiskShown>& disks, Progress::Time now);

// The line of one disk, and that of all, less than `width` columns wide.
[[nodiscard]] std::string bar_line(const DiskShown& disk, Progress::Time now, size_t width);
[[nodiscard]] std::string total_line(const Totals& totals, size_t width);
// The same as one line without a bar: of all, and of those that are running.
[[nodiscard]] std::string log_line(const std::vector<DiskShown>& disks, Progress::Time now);
// The lines for a terminal of that size: of each disk, if there is room for them, or else of those
// that are running; and if there are several one of all.
[[nodiscard]] std::vector<std::string> bar_lines(const std::vector<DiskShown>& disks,
                                                 Progress::Time now, size_t width, size_t height);

class Bars : public Footer {
 public:
  // `disks` is asked whenever they are drawn.
  explicit Bars(std::function<std::vector<DiskShown>()> disks) : disks_(std::move(disks)) {}

  void erase() override;
  void draw() override;
  // What is drawn stays where it is.
  void leave() { drawn_ = 0; }

 private:
  const std::function<std::vector<DiskShown>()> disks_;
  size_t drawn_ = 0;  // lines
};

}  // namespace nbdupload
