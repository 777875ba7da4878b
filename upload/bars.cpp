// SPDX-License-Identifier: BSD-3-Clause
//
// The lines are drawn anew each time: the cursor goes up to the first, and all below it is
// erased. No line is as wide as the terminal, which would begin another one.

#include "bars.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace nbdupload {

namespace {

constexpr size_t kWidestName = 30;
constexpr size_t kWidestBar = 40;

winsize terminal_size() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0) size = {};
  if (size.ws_col == 0) size.ws_col = 80;
  if (size.ws_row == 0) size.ws_row = 24;
  return size;
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

// "  12 MiB/s  0:07 left"
std::string speed(std::optional<double> rate, std::optional<std::chrono::seconds> left,
                  const char* separator) {
  std::string text;
  if (rate) text += separator + shown_bytes(*rate) + "/s";
  if (left && left->count() > 0) text += separator + shown_time(*left) + " left";
  return text;
}

std::string cut(const std::string& line, size_t width) {
  return in_columns(line, std::min(columns(line), width > 1 ? width - 1 : 1));
}

// "begin 45% [****    ] end". The bar has what is left; on a narrow terminal the end is cut.
std::string with_bar(const std::string& begin, int percent, const std::string& end,
                     size_t width) {
  const std::string number = std::to_string(percent) + "%";
  std::string line = begin + std::string(6 - std::min<size_t>(5, number.size()), ' ') + number;
  const size_t others = columns(line) + end.size() + 4;
  const size_t bar = width > others + 10 ? std::min(width - others, kWidestBar) : 10;
  const size_t stars = bar * static_cast<size_t>(percent) / 100;
  line += " [" + std::string(stars, '*') + std::string(bar - stars, ' ') + "]" + end;
  return cut(line, width);
}

}  // namespace

int Totals::percent() const {
  if (done >= size) return size == 0 ? 0 : 100;
  const auto share = std::llround(static_cast<double>(done) / static_cast<double>(size) * 100);
  return static_cast<int>(std::min<long long>(share, 99));
}

std::optional<std::chrono::seconds> Totals::left() const {
  if (!rate || *rate <= 0) return std::nullopt;
  return std::chrono::seconds(std::llround(static_cast<double>(size - done) / *rate));
}

Totals totals_of(const std::vector<DiskShown>& disks, Progress::Time now) {
  Totals totals;
  totals.disks = disks.size();
  for (const DiskShown& disk : disks) {
    if (disk.state == DiskState::kFailed) ++totals.failed;
    if (disk.state == DiskState::kDone || disk.state == DiskState::kFailed) ++totals.ended;
    // What has failed is not to be done any more.
    totals.size += disk.state == DiskState::kFailed ? disk.progress.done() : disk.progress.size();
    totals.done += disk.progress.done();
    if (const auto rate = disk.progress.rate(now); rate && is_running(disk.state))
      totals.rate = totals.rate.value_or(0) + *rate;
  }
  return totals;
}

std::string bar_line(const DiskShown& disk, Progress::Time now, size_t width) {
  const Progress& progress = disk.progress;
  const std::string name = shown_line(disk.name);
  std::string end;
  if (is_running(disk.state)) end = speed(progress.rate(now), progress.left(now), "  ");
  return with_bar(in_columns(name, std::min(columns(name), kWidestName)), progress.percent(),
                  end + "  " + state_name(disk.state), width);
}

std::string total_line(const Totals& totals, size_t width) {
  std::string begin =
      std::to_string(totals.ended) + " of " + std::to_string(totals.disks) + " disks";
  if (totals.failed > 0) begin += ", " + std::to_string(totals.failed) + " failed";
  return with_bar(begin, totals.percent(), speed(totals.rate, totals.left(), "  "), width);
}

std::string log_line(const std::vector<DiskShown>& disks, Progress::Time now) {
  const Totals totals = totals_of(disks, now);
  std::string line = std::to_string(totals.percent()) + "%";
  line += speed(totals.rate, totals.left(), ", ");
  if (disks.size() > 1)
    line +=
        ", " + std::to_string(totals.ended) + " of " + std::to_string(totals.disks) + " disks";
  if (totals.failed > 0) line += ", " + std::to_string(totals.failed) + " failed";
  for (const DiskShown& disk : disks)
    if (is_running(disk.state))
      line += std::string("; ") + state_name(disk.state) + " '" + disk.name + "' " +
              std::to_string(disk.progress.percent()) + "%";
  return line;
}

std::vector<std::string> bar_lines(const std::vector<DiskShown>& disks, Progress::Time now,
                                   size_t width, size_t height) {
  std::vector<std::string> lines;
  const size_t room = height > 3 ? height - 3 : 1;
  const bool all = disks.size() <= room;
  for (const DiskShown& disk : disks)
    if (all || (is_running(disk.state) && lines.size() < room))
      lines.push_back(bar_line(disk, now, width));
  if (disks.size() > 1) lines.push_back(total_line(totals_of(disks, now), width));
  return lines;
}

void Bars::erase() {
  if (drawn_ > 0) write_all(STDERR_FILENO, "\033[" + std::to_string(drawn_) + "A\r\033[J");
  drawn_ = 0;
}

void Bars::draw() {
  const winsize size = terminal_size();
  const std::vector<std::string> lines =
      bar_lines(disks_(), std::chrono::steady_clock::now(), size.ws_col, size.ws_row);
  std::string text;
  if (drawn_ > 0) text = "\033[" + std::to_string(drawn_) + "A\r\033[J";
  for (const std::string& line : lines) text += line + "\n";
  write_all(STDERR_FILENO, text);
  drawn_ = lines.size();
}

}  // namespace nbdupload
