// SPDX-License-Identifier: BSD-3-Clause
//
// What was read can't be put back, so it goes through a pipe of its own, which holds more.

#include "standard_input.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "content.h"

namespace nbdupload {

Outcome StandardInput::open() {
  if (isatty(STDIN_FILENO) != 0)
    return Outcome::usage("IMAGE is '-': standard input is a terminal, not an image");
  fd_ = FileDescriptor(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  return fd_.is_open() ? Outcome() : Outcome::failed("'-': standard input is closed");
}

Outcome StandardInput::read_first(EventLoop& loop) {
  std::array<char, kFirstBytes> buffer;
  bool readable = false, ended = false;
  loop.watch(fd_.get(), [&] { readable = true; });
  EventLoop::End end = EventLoop::End::kDone;
  while (!ended && first_.size() < buffer.size() && end == EventLoop::End::kDone) {
    end = loop.run([&] { return readable; });
    if (end != EventLoop::End::kDone) break;
    readable = false;
    const ssize_t got = read(fd_.get(), buffer.data(), buffer.size() - first_.size());
    if (got > 0) first_.append(buffer.data(), static_cast<size_t>(got));
    ended = got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN);
  }
  loop.unwatch(fd_.get());
  if (end != EventLoop::End::kDone) return Outcome::stopped();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Outcome::failed("no pipe can be made");
  first_pipe_ = FileDescriptor(ends[0]);
  const FileDescriptor to(ends[1]);
  if (write(to.get(), first_.data(), first_.size()) != static_cast<ssize_t>(first_.size()))
    return Outcome::failed(std::string("a pipe can't be written to: ") + strerror(errno));
  return {};
}

}  // namespace nbdupload
