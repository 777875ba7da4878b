// SPDX-License-Identifier: BSD-3-Clause
//
// A pipe holds 65536 bytes, so a secret of that many at most waits for no reader.

#include "secret.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <termios.h>

#include <cerrno>
#include <string_view>

#include "console.h"

namespace nbdupload {

namespace {

constexpr size_t kLongest = 65535;

// Turns the terminal's echo off while it lives.
class Silence {
 public:
  Silence() {
    if (tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    is_terminal_ = tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) == 0;
  }
  ~Silence() {
    if (is_terminal_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  termios before_{};
  bool is_terminal_ = false;
};

// The first line, or so much of it that it is known to be too long. Byte by byte: what
// follows may be for somebody else.
Or<std::string> read_line(EventLoop& loop, int fd) {
  std::string line;
  bool readable = false, ended = false;
  loop.watch(fd, [&] { readable = true; });
  while (!ended && line.size() <= kLongest && loop.stop_signal() == 0) {
    if (loop.run([&] { return readable; }) != EventLoop::End::kDone) break;
    char c = 0;
    const ssize_t got = read(fd, &c, 1);
    ended = got == 0 || (got > 0 && c == '\n') || (got < 0 && errno != EINTR && errno != EAGAIN);
    if (got > 0 && !ended) line += c;
    readable = false;
  }
  loop.unwatch(fd);
  if (loop.stop_signal() != 0) return Outcome::stopped();
  return line;
}

Or<std::string> ask(EventLoop& loop, const std::string& key) {
  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal) write_all(STDERR_FILENO, key + ": ");
  Or<std::string> line = [&] {
    const Silence silence;
    return read_line(loop, STDIN_FILENO);
  }();
  if (terminal) write_all(STDERR_FILENO, "\n");
  if (line.ok() && line.value().empty()) return Outcome::usage(key + "=-: nothing could be read");
  return line;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.size() <= 6 &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

Or<std::string> read_from(EventLoop& loop, const std::string& key, const std::string& value,
                          const std::string& file) {
  // The writer of a pipe is waited for in the loop too.
  const FileDescriptor from(open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat found {};
  if (!from.is_open() || fstat(from.get(), &found) != 0 || S_ISDIR(found.st_mode))
    return Outcome::failed(key + "=" + value + ": the file is missing or can't be read");
  Or<std::string> line = read_line(loop, from.get());
  if (line.ok() && line.value().empty())
    return Outcome::failed(key + "=" + value + ": it is empty");
  return line;
}

Or<std::string> read_any(EventLoop& loop, const std::string& key, const std::string& value) {
  if (value == "-") return ask(loop, key);
  if (value.starts_with("+")) return read_from(loop, key, value, value.substr(1));
  if (!value.starts_with("-")) return value;
  if (!is_number(std::string_view(value).substr(1)))
    return Outcome::failed(
        key + "=-...: not a file descriptor; if it begins with '-', give it in a file, +FILE");
  return read_from(loop, key, value, "/dev/fd/" + value.substr(1));
}

}  // namespace

Or<std::string> read_secret(EventLoop& loop, const std::string& key, const std::string& value) {
  Or<std::string> secret = read_any(loop, key, value);
  if (secret.ok() && secret.value().size() > kLongest)
    return Outcome::failed(key + "=...: a secret of more than " + std::to_string(kLongest) +
                           " bytes is not taken");
  return secret;
}

Or<FileDescriptor> secret_pipe(const std::string& key, const std::string& secret) {
  int ends[2];
  const std::string line = secret + "\n";
  if (pipe2(ends, O_CLOEXEC) != 0) return Outcome::failed(key + "=...: no pipe can be made");
  FileDescriptor from(ends[0]);
  const FileDescriptor to(ends[1]);
  // A pipe may be smaller, if the user has a thousand already.
  fcntl(to.get(), F_SETFL, O_NONBLOCK);
  if (write(to.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    return Outcome::failed(key + "=...: it does not fit into a pipe");
  return from;
}

}  // namespace nbdupload
