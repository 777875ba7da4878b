// SPDX-License-Identifier: BSD-3-Clause
//
// Lines are written whole, each with one write(2), so that those of a program that shares
// standard error do not get into the middle of one.

#include "console.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "base/printable.h"

namespace nbdupload {

namespace {

// In bytes.
constexpr size_t kLongestLine = 4096;

}  // namespace

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

std::string shown_line(std::string_view text) {
  if (text.size() <= kLongestLine) return upload::printable(text);
  return upload::printable(text.substr(0, kLongestLine)) + "...";
}

bool Console::open_log(const std::string& file) {
  log_ = FileDescriptor(
      open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600));
  return log_.is_open();
}

void Console::log(std::string_view text) {
  if (!log_.is_open()) return;
  const time_t now = time(nullptr);
  tm parts{};
  char when[32] = "";
  strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ ", gmtime_r(&now, &parts));
  write_all(log_.get(), when + shown_line(text) + "\n");
}

void Console::line(std::string_view text) {
  log(text);
  if (footer_ != nullptr) footer_->erase();
  write_all(STDERR_FILENO, shown_line(text) + "\n");
  if (footer_ != nullptr) footer_->draw();
}

}  // namespace nbdupload
