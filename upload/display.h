// SPDX-License-Identifier: BSD-3-Clause
//
// Display: the progress of all disks, for whoever looks: bars on a terminal, lines in a log,
// JSON or N/100 for programs.

#pragma once

#include <deque>
#include <optional>
#include <string>

#include "bars.h"
#include "console.h"
#include "disk.h"
#include "event_loop.h"
#include "outcome.h"
#include "progress_fd.h"

namespace nbdupload {

class Display {
 public:
  // All references outlive it.
  Display(EventLoop& loop, Console& console, const std::deque<Disk>& disks);
  ~Display();
  Display(const Display&) = delete;
  Display& operator=(const Display&) = delete;

  // `mode` is what --progress says: bars, lines, json or none; empty: whatever suits.
  // `progress_fd` is a number, or empty.
  [[nodiscard]] Outcome choose(const std::string& mode, const std::string& progress_fd,
                               bool verbose);
  // What follows is about the disks, which are known now.
  void begin();
  // The copies of all disks begin, to be uploaded or to be verified.
  void begin_copies();
  void changed(const Disk& disk);
  // The disk has ended, well or not.
  void ended(const Disk& disk);
  // There is nothing more to show; what is drawn stays.
  void finish();
  // The same at once, where something has to be said in its place.
  void end();

  // Does anybody look at the progress?
  [[nodiscard]] bool is_shown() const {
    return mode_ != Mode::kNone || progress_fd_.is_open() || console_.has_log();
  }
  // Does somebody read what is said, who is not a program?
  [[nodiscard]] bool is_read() const { return mode_ == Mode::kBars || mode_ == Mode::kLines; }

 private:
  enum class Mode { kNone, kBars, kLines, kJson };

  [[nodiscard]] std::vector<DiskShown> shown() const;
  void tick();

  EventLoop& loop_;
  Console& console_;
  const std::deque<Disk>& disks_;
  Mode mode_ = Mode::kNone;
  ProgressFd progress_fd_;
  int told_ = -1;  // the percentage that was told to that last
  EventLoop::Clock::time_point last_line_;
  std::optional<Bars> bars_;
};

}  // namespace nbdupload
