// SPDX-License-Identifier: BSD-3-Clause
//
// A script that runs nbdupload for one disk without a terminal sees nothing unless something
// is wrong; with several disks it sees a line from time to time.

#include "display.h"

#include <poll.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

namespace nbdupload {

namespace {

using nlohmann::json;

constexpr std::chrono::seconds kBarsInterval{1}, kLinesInterval{10};

bool is_terminal() { return isatty(STDERR_FILENO) != 0; }

bool is_dumb() {
  const char* type = getenv("TERM");
  return type != nullptr && std::string_view(type) == "dumb";
}

// One object on a line of standard output. `may_wait`: for a reader that is slow; else the
// line is left out then.
void write_json(const json& object, bool may_wait) {
  pollfd ready{STDOUT_FILENO, POLLOUT, 0};
  if (!may_wait && poll(&ready, 1, 0) <= 0) return;
  // What is no UTF-8 in a name is replaced.
  write_all(STDOUT_FILENO, object.dump(-1, ' ', true, json::error_handler_t::replace) + "\n");
}

json described(const Disk& disk) {
  return {{"image", disk.name()},
          {"target", disk.target.name},
          {"state", state_name(disk.state)},
          {"size", disk.source.size()}};
}

}  // namespace

Display::Display(EventLoop& loop, Console& console, const std::deque<Disk>& disks)
    : loop_(loop), console_(console), disks_(disks) {}

Display::~Display() { end(); }

Outcome Display::choose(const std::string& mode, const std::string& progress_fd, bool verbose) {
  if (Outcome outcome = progress_fd_.open(progress_fd); !outcome.ok()) return outcome;
  if (mode == "bars") {
    mode_ = Mode::kBars;
  } else if (mode == "lines") {
    mode_ = Mode::kLines;
  } else if (mode == "json") {
    mode_ = Mode::kJson;
  } else if (mode != "none" && !mode.empty()) {
    return Outcome::usage("--progress: '" + mode + "' is not one of bars, lines, json, none");
  } else if (mode.empty() && !console_.quiet() && !progress_fd_.is_open()) {
    if (is_terminal())
      mode_ = verbose || is_dumb() ? Mode::kLines : Mode::kBars;
    else if (disks_.size() > 1)
      mode_ = Mode::kLines;
  }
  return {};
}

std::vector<DiskShown> Display::shown() const {
  std::vector<DiskShown> shown;
  for (const Disk& disk : disks_) shown.push_back({disk.name(), disk.state, disk.progress});
  return shown;
}

void Display::begin() {
  last_line_ = EventLoop::Clock::now();
  if (mode_ == Mode::kBars) {
    bars_.emplace([this] { return shown(); });
    console_.set_footer(&*bars_);
  }
  if (mode_ == Mode::kJson)
    for (const Disk& disk : disks_) {
      json object = described(disk);
      object["event"] = "begin";
      object["format"] = disk.source.format();
      write_json(object, true);
    }
  if (mode_ != Mode::kNone || console_.has_log())
    loop_.set_ticker(kBarsInterval, [this] { tick(); });
}

void Display::begin_copies() { told_ = -1; }

void Display::tick() {
  if (bars_) bars_->draw();
  const auto now = EventLoop::Clock::now();
  if (now - last_line_ < kLinesInterval) return;
  last_line_ = now;
  const std::string line = "nbdupload: " + log_line(shown(), now);
  if (mode_ == Mode::kLines)
    console_.line(line);
  else
    console_.log(line);
}

void Display::changed(const Disk& disk) {
  if (bars_) bars_->draw();
  const auto now = EventLoop::Clock::now();
  if (progress_fd_.is_open()) {
    const int percent = totals_of(shown(), now).percent();
    if (percent != told_) progress_fd_.tell(percent);
    told_ = percent;
  }
  if (mode_ != Mode::kJson) return;
  json object = described(disk);
  object["event"] = "progress";
  object["done"] = disk.progress.done();
  object["percent"] = disk.progress.percent();
  if (const auto rate = disk.progress.rate(now)) object["rate"] = std::llround(*rate);
  if (const auto left = disk.progress.left(now)) object["left"] = left->count();
  write_json(object, false);
}

void Display::ended(const Disk& disk) {
  if (bars_) bars_->draw();
  if (mode_ != Mode::kJson) return;
  json object = described(disk);
  object["event"] = "end";
  object["seconds"] = disk.took.count();
  if (!disk.why.empty()) object["why"] = shown_line(disk.why);
  write_json(object, true);
}

void Display::finish() {
  if (bars_) bars_->leave();
  end();
}

void Display::end() {
  loop_.set_ticker(std::chrono::milliseconds(0), {});
  console_.set_footer(nullptr);
  bars_.reset();
}

}  // namespace nbdupload
