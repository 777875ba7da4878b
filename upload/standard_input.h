// SPDX-License-Identifier: BSD-3-Clause
//
// StandardInput: a raw image that comes as a stream, before it is copied (stream.h).

#pragma once

#include <string>
#include <vector>

#include "event_loop.h"
#include "file_descriptor.h"
#include "outcome.h"

namespace nbdupload {

class StandardInput {
 public:
  // Takes a copy of the file descriptor. Fails if it is closed, or a terminal.
  [[nodiscard]] Outcome open();
  // Waits in the loop for the first bytes (kFirstBytes, or all if there are fewer).
  [[nodiscard]] Outcome read_first(EventLoop& loop);

  // Its checksum is to be made while it is copied.
  void check() { checked_ = true; }
  [[nodiscard]] bool is_checked() const { return checked_; }

  // After that: what was read, and file descriptors from which it can be read again, and then the rest.
  [[nodiscard]] const std::string& first() const { return first_; }
  [[nodiscard]] int first_fd() const { return first_pipe_.get(); }
  [[nodiscard]] int rest_fd() const { return fd_.get(); }

 private:
  FileDescriptor fd_, first_pipe_;
  std::string first_;
  bool checked_ = false;
};

}  // namespace nbdupload
