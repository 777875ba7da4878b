// SPDX-License-Identifier: BSD-3-Clause
//
// Lines are written whole, each with one write(2), so that those of a program that shares
// standard error do not get into the middle of one.

#include "console.h"

#include <unistd.h>

#include <cerrno>

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

void Console::line(std::string_view text) {
  if (footer_ != nullptr) footer_->erase();
  write_all(STDERR_FILENO, shown_line(text) + "\n");
  if (footer_ != nullptr) footer_->draw();
}

}  // namespace nbdupload
