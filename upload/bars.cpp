// SPDX-License-Identifier: BSD-3-Clause
//
// The lines are drawn anew each time: the cursor goes up to the first, and all below it is
// erased. No line is as wide as the terminal, which would begin another one.

#include "bars.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

namespace nbdupload {

namespace {

constexpr size_t kWidestName = 30;
constexpr size_t kWidestBar = 40;

size_t terminal_width() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

// Bytes of UTF-8 that continue a character have no column of their own.
bool continues(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

size_t columns(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !continues(c); }));
}

// The first columns of a text, filled up with blanks.
std::string in_columns(const std::string& text, size_t wide) {
  size_t end = 0, taken = 0;
  while (end < text.size() && (taken < wide || continues(text[end])))
    if (!continues(text[end++])) ++taken;
  return text.substr(0, end) + std::string(wide - taken, ' ');
}

}  // namespace

std::string bar_line(const DiskShown& disk, Progress::Time now, size_t width) {
  const Progress& progress = disk.progress;
  const auto rate = progress.rate(now);
  const auto left = progress.left(now);
  const std::string percent = std::to_string(progress.percent()) + "%";
  std::string end = "] ";
  if (rate) end += " " + shown_bytes(*rate) + "/s";
  if (left && progress.percent() < 100) end += "  " + shown_time(*left) + " left";
  end += "  " + disk.state;

  const std::string name = shown_line(disk.name);
  std::string line = in_columns(name, std::min(columns(name), kWidestName)) + " " +
                     std::string(5 - std::min<size_t>(5, percent.size()), ' ') + percent + " [";
  // The bar has what is left; on a narrow terminal the end is cut.
  const size_t others = columns(line) + end.size() + 1;
  const size_t bar = width > others + 10 ? std::min(width - others, kWidestBar) : 10;
  const size_t stars = bar * static_cast<size_t>(progress.percent()) / 100;
  line += std::string(stars, '*') + std::string(bar - stars, ' ') + end;
  return in_columns(line, std::min(columns(line), width > 1 ? width - 1 : 1));
}

void Bars::erase() {
  if (drawn_ > 0) write_all(STDERR_FILENO, "\033[" + std::to_string(drawn_) + "A\r\033[J");
  drawn_ = 0;
}

void Bars::draw() {
  erase();
  std::string text;
  const auto now = std::chrono::steady_clock::now();
  const size_t width = terminal_width();
  for (const DiskShown& disk : disks_) text += bar_line(disk, now, width) + "\n";
  write_all(STDERR_FILENO, text);
  drawn_ = disks_.size();
}

}  // namespace nbdupload
