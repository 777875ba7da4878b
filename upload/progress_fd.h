// SPDX-License-Identifier: BSD-3-Clause
//
// ProgressFd: progress as lines of N/100 for another program (--progress-fd).

#pragma once

#include <string>

#include "event_loop.h"
#include "file_descriptor.h"
#include "outcome.h"

namespace nbdupload {

class ProgressFd {
 public:
  // Takes a copy of the file descriptor of that number; an empty one: none is wanted.
  [[nodiscard]] Outcome open(const std::string& number);
  [[nodiscard]] bool is_open() const { return copy_.is_open(); }

  // Writes the line, unless that would have to wait for a reader: then it is left out.
  void tell(int percent);

 private:
  FileDescriptor copy_;
};

}  // namespace nbdupload
