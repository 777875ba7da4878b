// SPDX-License-Identifier: BSD-3-Clause
//
// Checksum: a disk at a server compared with its image by their checksums, which the server makes
// of the one and another nbdupload of the other, both at a time.
//
// The image is read once more for that, since nbdcopy, which reads it while it is sent, gives what it
// reads to nobody else, and not in order. Of a stream the checksum is made while it is sent.

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "event_loop.h"
#include "outcome.h"
#include "parameters.h"
#include "process.h"
#include "progress_pipe.h"
#include "source.h"
#include "target.h"

namespace nbdupload {

// Fails if that server has no such checksums. Nothing has to be sent yet.
[[nodiscard]] Outcome check_checksums(EventLoop& loop, const Target& target,
                                      const Parameters& parameters);

class Checksum {
 public:
  // `known`: the checksum of the image, or empty. `on_progress` is called with the percentage of the
  // image that was read; an empty one is not. All references outlive it.
  Checksum(EventLoop& loop, const Source& source, const Target& target,
           const Parameters& parameters, std::string known, std::function<void(int)> on_progress);

  [[nodiscard]] Outcome start();
  [[nodiscard]] bool ended() const;
  void stop(std::chrono::seconds patience);
  // After its end: tells the progress that it has still told.
  void finish_progress() { progress_.finish(); }

  // After its end: empty if the disk is the same, else how it differs or why that is not known.
  [[nodiscard]] std::string difference() const;

 private:
  struct Half {
    std::unique_ptr<Process> process;
    std::string output, last_line;

    [[nodiscard]] Outcome start(EventLoop& loop, std::vector<std::string> words,
                                std::vector<int> inherited);
    [[nodiscard]] bool ended() const { return process == nullptr || process->ended(); }
  };

  EventLoop& loop_;
  const Source& source_;
  const Target& target_;
  const Parameters& parameters_;
  const std::string known_;
  ProgressPipe progress_;
  Half image_, server_;
};

}  // namespace nbdupload
