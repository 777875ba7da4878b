// SPDX-License-Identifier: BSD-3-Clause
//
// LocalServer: an NBD server on a unix socket, through which an image is read.

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "event_loop.h"
#include "outcome.h"
#include "process.h"

namespace nbdupload {

// What a program may use that copies, in bytes. A stack of 8 MiB for each thread counts, and
// qemu-nbd has up to 64 threads.
inline constexpr uint64_t kCopyMemory = uint64_t{4} << 30;

class LocalServer {
 public:
  // `words` make it write its process id to `pid_file` when it can be connected to.
  LocalServer(EventLoop& loop, std::vector<std::string> words, std::string pid_file);

  // Starts it, and waits until it serves. Fails if it does not; the text is the reason only.
  [[nodiscard]] Outcome start(std::vector<int> inherited);
  void stop(std::chrono::seconds patience);

  [[nodiscard]] pid_t pid() const { return process_->pid(); }
  // What it has said last; empty: nothing.
  [[nodiscard]] std::string last_words() const;

 private:
  EventLoop& loop_;
  const std::vector<std::string> words_;
  const std::string pid_file_;
  std::vector<std::string> said_;
  std::unique_ptr<Process> process_;
};

// A program has written something to that file.
[[nodiscard]] bool has_content(const std::string& file);

}  // namespace nbdupload
