// SPDX-License-Identifier: BSD-3-Clause
//
// How far a copy is, how fast, and how that is shown.

#include "progress.h"

#include "bars.h"
#include "catch.h"

using namespace std::chrono_literals;
using nbdupload::bar_line;
using nbdupload::DiskShown;
using nbdupload::DiskState;
using nbdupload::Progress;
using nbdupload::shown_bytes;
using nbdupload::shown_time;
using nbdupload::totals_of;

namespace {

int64_t whole(std::optional<double> rate) { return static_cast<int64_t>(rate.value()); }

}  // namespace

TEST_CASE("the rate is that of the last half minute, not of all", "[progress]") {
  const Progress::Time start{};
  Progress progress(100 << 20, start);
  CHECK_FALSE(progress.rate(start));
  progress.set_percent(50, start + 1s);
  CHECK(whole(progress.rate(start + 1s)) == 50 << 20);
  progress.set_percent(51, start + 50s);
  progress.set_percent(60, start + 100s);
  CHECK(whole(progress.rate(start + 100s)) == (9 << 20) / 50);
  CHECK(*progress.left(start + 100s) == 222s);
}

TEST_CASE("a standstill makes the rate small", "[progress]") {
  const Progress::Time start{};
  Progress progress(100 << 20, start);
  progress.set_percent(50, start + 10s);
  CHECK(whole(progress.rate(start + 1000s)) == (50 << 20) / 1000);
}

TEST_CASE("progress does not go back, nor beyond its end", "[progress]") {
  Progress progress(1000, {});
  progress.set_percent(70, Progress::Time{} + 1s);
  progress.set_percent(30, Progress::Time{} + 2s);
  CHECK(progress.done() == 700);
  progress.set_percent(170, Progress::Time{} + 3s);
  CHECK(progress.done() == 1000);
}

TEST_CASE("the largest disk has no overflow", "[progress]") {
  Progress progress(INT64_MAX, {});
  progress.set_percent(100, Progress::Time{} + 1s);
  CHECK(progress.done() == INT64_MAX);
}

TEST_CASE("sizes have two or three digits, and times their hours", "[progress]") {
  CHECK(shown_bytes(0) == "0 B");
  CHECK(shown_bytes(999) == "999 B");
  CHECK(shown_bytes(1000) == "1.0 KiB");
  CHECK(shown_bytes(10.4 * 1048576) == "10 MiB");
  CHECK(shown_time(7s) == "0:07");
  CHECK(shown_time(3753s) == "1:02:33");
}

TEST_CASE("a line has a bar, and fits into the terminal", "[progress]") {
  DiskShown disk{"disk.qcow2", DiskState::kUploading, Progress(100 << 20, {})};
  disk.progress.set_percent(50, Progress::Time{} + 1s);
  const std::string line = bar_line(disk, Progress::Time{} + 1s, 120);
  CHECK(line == "disk.qcow2   50% [" + std::string(20, '*') + std::string(20, ' ') +
                    "]  50 MiB/s  0:01 left  uploading");
  for (const size_t width : {1, 2, 10, 40, 60, 80, 200})
    CHECK(bar_line(disk, Progress::Time{} + 1s, width).size() <= std::max<size_t>(width - 1, 1));
}

TEST_CASE("a long name is cut by characters", "[progress]") {
  std::string name;
  for (int i = 0; i < 40; ++i) name += "\xc3\xbc";
  const std::string line = bar_line({name, DiskState::kWaiting, Progress(100, {})}, {}, 120);
  CHECK(line.substr(0, 61) == name.substr(0, 60) + " ");
}

TEST_CASE("all disks together are as far as their bytes", "[progress]") {
  std::vector<DiskShown> disks = {{"a", DiskState::kUploading, Progress(300, {})},
                                  {"b", DiskState::kFailed, Progress(1000, {})},
                                  {"c", DiskState::kDone, Progress(100, {})}};
  disks[2].progress.set_percent(100, Progress::Time{} + 1s);
  auto totals = totals_of(disks, Progress::Time{} + 1s);
  CHECK(totals.percent() == 25);
  CHECK(totals.ended == 2);
  CHECK(totals.failed == 1);
  CHECK_FALSE(totals.rate);
  disks[0].progress.set_percent(50, Progress::Time{} + 2s);
  totals = totals_of(disks, Progress::Time{} + 2s);
  CHECK(whole(totals.rate) == 75);
  CHECK(totals.left() == 2s);
  CHECK(nbdupload::log_line(disks, Progress::Time{} + 2s) ==
        "63%, 75 B/s, 0:02 left, 2 of 3 disks, 1 failed; uploading 'a' 50%");
}

TEST_CASE("100 percent is not told before all is done", "[progress]") {
  std::vector<DiskShown> disks = {{"a", DiskState::kDone, Progress(1000000, {})},
                                  {"b", DiskState::kUploading, Progress(100, {})}};
  disks[0].progress.set_percent(100, Progress::Time{} + 1s);
  CHECK(totals_of(disks, {}).percent() == 99);
  disks[1].progress.set_percent(100, Progress::Time{} + 1s);
  CHECK(totals_of(disks, {}).percent() == 100);
}

TEST_CASE("if not all fit on the terminal, those that are running are shown", "[progress]") {
  std::vector<DiskShown> disks(50, {"disk", DiskState::kWaiting, Progress(100, {})});
  disks[7] = {"seventh", DiskState::kUploading, Progress(100, {})};
  auto lines = nbdupload::bar_lines(disks, {}, 80, 24);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].starts_with("seventh "));
  CHECK(lines[1].starts_with("0 of 50 disks "));
  CHECK(nbdupload::bar_lines(disks, {}, 80, 60).size() == 51);
  disks.assign(50, {"disk", DiskState::kUploading, Progress(100, {})});
  CHECK(nbdupload::bar_lines(disks, {}, 80, 24).size() == 22);
}
