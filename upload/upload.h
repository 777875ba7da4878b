// SPDX-License-Identifier: BSD-3-Clause
//
// Upload: the order of things, from the command line to the exit status.
//
// The image and the programs are looked at, then the servers are started and both sizes are
// compared; only then is anything sent. It ends by stopping all that it has started, the
// reader and writer first, so that nobody complains of a lost connection.

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bars.h"
#include "console.h"
#include "copy.h"
#include "event_loop.h"
#include "nbdkit.h"
#include "options.h"
#include "outcome.h"
#include "parameters.h"
#include "private_directory.h"
#include "progress_fd.h"
#include "source.h"
#include "target_facts.h"

namespace nbdupload {

class Upload {
 public:
  Upload(EventLoop& loop, Console& console, Options options);
  ~Upload();

  [[nodiscard]] Outcome run();
  // "; the disk at URL is incomplete" if something was sent and not all has arrived.
  [[nodiscard]] std::string state() const;
  // From now on nothing is shown but what nbdupload itself says.
  void mute();

 private:
  [[nodiscard]] Outcome check_arguments();
  [[nodiscard]] Outcome print_version();
  [[nodiscard]] Outcome prepare();
  void print_commands();
  void print_command(const std::vector<std::string>& words) const;
  // In a verbose run: what is started now.
  void show_command(const std::vector<std::string>& words);
  [[nodiscard]] Or<TargetFacts> ask_target();
  [[nodiscard]] Outcome check_target();
  [[nodiscard]] Outcome check_size(const TargetFacts& target);
  [[nodiscard]] Outcome cut_rounding(uint64_t size);
  [[nodiscard]] Outcome zero_rest(const TargetFacts& target);
  // The exit status of nbdcopy.
  [[nodiscard]] Or<int> copy(Purpose purpose);
  [[nodiscard]] Outcome send();
  [[nodiscard]] Outcome verify();
  void show_copy_errors();
  void set_up_display();
  void show_progress(int percent);

  EventLoop& loop_;
  Console& console_;
  const Options options_;
  Parameters parameters_;
  ProgressFd progress_fd_;
  PrivateDirectory directory_;
  std::optional<Image> image_;
  std::optional<Source> source_;
  std::optional<Nbdkit> nbdkit_;
  std::optional<Copy> copy_;
  std::vector<DiskShown> shown_;
  std::optional<Bars> bars_;
  bool sending_ = false;
};

}  // namespace nbdupload
