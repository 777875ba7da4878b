// SPDX-License-Identifier: BSD-3-Clause
//
// ProgressPipe: lines of N/100 that a program writes about itself, as nbdcopy does.

#pragma once

#include <functional>

#include "event_loop.h"
#include "file_descriptor.h"
#include "line_reader.h"
#include "outcome.h"

namespace nbdupload {

class ProgressPipe {
 public:
  // `on_progress` is called with each N, while the loop runs; if it is empty there is no pipe.
  ProgressPipe(EventLoop& loop, std::function<void(int)> on_progress);
  ~ProgressPipe();
  ProgressPipe(const ProgressPipe&) = delete;
  ProgressPipe& operator=(const ProgressPipe&) = delete;

  // The end for the program; none if there is no pipe.
  [[nodiscard]] Or<FileDescriptor> open();
  // Once the program has ended: takes what it has still written.
  void finish();

 private:
  void take();

  EventLoop& loop_;
  const std::function<void(int)> on_progress_;
  LineReader lines_;
  FileDescriptor pipe_;
};

}  // namespace nbdupload
