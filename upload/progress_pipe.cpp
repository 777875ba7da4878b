// SPDX-License-Identifier: BSD-3-Clause
//
// The program may be started by another one that holds the pipe open: its end is not waited for.

#include "progress_pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <utility>

namespace nbdupload {

ProgressPipe::ProgressPipe(EventLoop& loop, std::function<void(int)> on_progress)
    : loop_(loop),
      on_progress_(std::move(on_progress)),
      lines_([this](const std::string& line) { on_progress_(atoi(line.c_str())); }) {}

ProgressPipe::~ProgressPipe() {
  if (pipe_.is_open()) loop_.unwatch(pipe_.get());
}

Or<FileDescriptor> ProgressPipe::open() {
  if (!on_progress_) return FileDescriptor();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Outcome::failed("no pipe can be made");
  pipe_ = FileDescriptor(ends[0]);
  fcntl(pipe_.get(), F_SETFL, O_NONBLOCK);
  loop_.watch(pipe_.get(), [this] { take(); });
  return FileDescriptor(ends[1]);
}

void ProgressPipe::take() {
  std::array<char, 4096> buffer;
  const ssize_t got = read(pipe_.get(), buffer.data(), buffer.size());
  if (got > 0) {
    lines_.take({buffer.data(), static_cast<size_t>(got)});
  } else if (got == 0) {
    loop_.unwatch(pipe_.get());
    pipe_.reset();
  }
}

void ProgressPipe::finish() {
  if (pipe_.is_open()) take();
}

}  // namespace nbdupload
