// SPDX-License-Identifier: BSD-3-Clause
//
// What a process has open, as /proc tells it.

#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace nbdupload {

// One file descriptor, as /proc/PID/fd/N.
struct OpenFile {
  int fd = -1;
  std::string link;   // to stat(2)
  std::string shown;  // what it leads to

  // Of pipes and of the kernel's own objects nothing can be uploaded.
  [[nodiscard]] bool is_harmless() const;
  [[nodiscard]] bool is_socket() const { return shown.starts_with("socket:"); }
};

// Without standard input, output and error, and without what the process has inherited from
// nbdupload by the same number.
[[nodiscard]] std::vector<OpenFile> own_open_files(pid_t pid);

// Do both names lead to the same file?
[[nodiscard]] bool is_same_file(const std::string& one, const std::string& other);

}  // namespace nbdupload
