// SPDX-License-Identifier: BSD-3-Clause
//
// Upload: the order of things, from the command line to the exit status.
//
// The images and the programs are looked at, then the servers are started and sizes are
// compared; only then is anything sent. Of several disks one may fail and the others arrive.
// It ends by stopping all that it has started, the readers and writers first, so that nobody
// complains of a lost connection.

#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "console.h"
#include "disk.h"
#include "disk_list.h"
#include "display.h"
#include "event_loop.h"
#include "exit_status.h"
#include "nbdkit.h"
#include "options.h"
#include "outcome.h"
#include "parameters.h"
#include "private_directory.h"
#include "target_facts.h"

namespace nbdupload {

class Upload {
 public:
  Upload(EventLoop& loop, Console& console, Options options);
  ~Upload();

  [[nodiscard]] Outcome run();
  // What a failure of run() means for the targets. Not for a bad command line or a signal.
  [[nodiscard]] ExitStatus failure_status() const;
  // "; the disk at URL is incomplete" if something was sent and not all has arrived.
  [[nodiscard]] std::string state() const;
  // From now on nothing is shown but what nbdupload itself says.
  void mute();

 private:
  // Before anything is sent.
  [[nodiscard]] Outcome print_version();
  [[nodiscard]] Outcome check_arguments();
  [[nodiscard]] Or<std::vector<Pair>> pairs();
  [[nodiscard]] Outcome check_stream();
  [[nodiscard]] Outcome add_disk(const Pair& pair, bool several);
  [[nodiscard]] Outcome prepare();
  void print_commands();
  void print_command(const Disk& disk, const std::vector<std::string>& words) const;
  [[nodiscard]] Outcome open_target();
  [[nodiscard]] Or<TargetFacts> ask_target(size_t index);
  [[nodiscard]] Outcome check_target(size_t index);
  [[nodiscard]] Outcome check_size(Disk& disk, const TargetFacts& target);
  [[nodiscard]] Outcome cut_rounding(Disk& disk, uint64_t size);
  [[nodiscard]] Outcome zero_rest(Disk& disk, const TargetFacts& target);

  // Copying. Fails only if nbdupload is to end.
  [[nodiscard]] Outcome copy_all(Purpose purpose);
  [[nodiscard]] Outcome start_checksum(Disk& disk);
  [[nodiscard]] std::function<void(int)> progress_handler(Disk& disk);
  [[nodiscard]] Outcome start_copy(size_t index, Purpose purpose);
  [[nodiscard]] CopySetup copy_setup() const;
  void make_reader(Disk& disk);
  [[nodiscard]] Outcome start_reader(Disk& disk);
  [[nodiscard]] Outcome end_copy(Disk& disk, Purpose purpose);
  void end_upload(Disk& disk);
  [[nodiscard]] Outcome end_verification(Disk& disk);
  void end_checksum(Disk& disk);
  void fail(Disk& disk, const std::string& why);
  void show_copy_errors(const Disk& disk);
  [[nodiscard]] Outcome stop_nbdkit();

  // After it.
  void summarize(const Disk& disk);
  void tell_statistics();
  void note(const std::string& text);
  [[nodiscard]] Outcome result();

  // In a verbose run: what is started now.
  void show_command(const std::vector<std::string>& words);
  // Before what is said of one of several disks: its name.
  [[nodiscard]] std::string prefix(const Disk& disk) const;
  [[nodiscard]] Outcome named(const Disk& disk, const Outcome& outcome) const;

  EventLoop& loop_;
  Console& console_;
  const Options options_;
  Parameters parameters_;
  std::optional<uint64_t> stream_size_;  // of standard input, in bytes
  PrivateDirectory directory_;
  std::deque<Disk> disks_;  // which other parts refer to
  std::optional<Nbdkit> nbdkit_;
  Display display_;
  bool sending_ = false;  // copies have begun
};

}  // namespace nbdupload
