// SPDX-License-Identifier: BSD-3-Clause
//
// Bars: the progress of each disk at the foot of a terminal.

#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "console.h"
#include "progress.h"

namespace nbdupload {

// One disk, as it is displayed.
struct DiskShown {
  std::string name;
  std::string state;  // a word: what is being done
  Progress progress;
};

class Bars : public Footer {
 public:
  // `disks` outlives it.
  explicit Bars(const std::vector<DiskShown>& disks) : disks_(disks) {}

  void erase() override;
  void draw() override;
  // What is drawn stays where it is.
  void leave() { drawn_ = 0; }

 private:
  const std::vector<DiskShown>& disks_;
  size_t drawn_ = 0;
};

// The line of one disk, at most `width` columns wide.
[[nodiscard]] std::string bar_line(const DiskShown& disk, Progress::Time now, size_t width);

}  // namespace nbdupload
