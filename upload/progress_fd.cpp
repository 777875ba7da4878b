// SPDX-License-Identifier: BSD-3-Clause
//
// A reader that is slow, or has gone, must keep neither the upload nor its end waiting. A
// pipe that can be written at all takes more than a line.

#include "progress_fd.h"

#include <fcntl.h>
#include <poll.h>

#include <cstdlib>

#include "console.h"

namespace nbdupload {

namespace {

// The last line is worth so long a wait, in milliseconds.
constexpr int kLastWait = 2000;

}  // namespace

Outcome ProgressFd::open(const std::string& number) {
  if (number.empty()) return {};
  const bool is_number =
      number.size() <= 6 && number.find_first_not_of("0123456789") == std::string::npos;
  const int fd = is_number ? atoi(number.c_str()) : -1;
  const int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
  if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY)
    copy_ = FileDescriptor(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (copy_.is_open()) return {};
  return Outcome::usage("--progress-fd: '" + number +
                        "' is not a file descriptor open for writing");
}

void ProgressFd::tell(int percent) {
  pollfd ready{copy_.get(), POLLOUT, 0};
  if (poll(&ready, 1, percent == 100 ? kLastWait : 0) <= 0 || (ready.revents & POLLOUT) == 0)
    return;
  write_all(copy_.get(), std::to_string(percent) + "/100\n");
}

}  // namespace nbdupload
