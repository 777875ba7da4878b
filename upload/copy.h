// SPDX-License-Identifier: BSD-3-Clause
//
// Copy: one nbdcopy, or for a stream its like (stream.h), from a source to the target.

#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "event_loop.h"
#include "nbdkit.h"
#include "outcome.h"
#include "process.h"
#include "progress_pipe.h"
#include "source.h"

namespace nbdupload {

// How an upload is copied.
struct CopySetup {
  bool target_is_zero = false;
  // The nbdkit serves others too, and must not be lost with this copy: nbdkit 1.32 aborts when a
  // client vanishes that has several requests under way.
  bool shares_nbdkit = false;
  bool write_back = true;  // a request waits for memory only, not for the server
};

class Copy {
 public:
  // To the target at that address. `on_progress` is called with the percentage that is done, while the loop runs; an empty
  // one is not. All references outlive it.
  Copy(EventLoop& loop, const Source& source, std::string address, Purpose purpose, CopySetup how,
       std::function<void(int)> on_progress);
  ~Copy() = default;
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;

  [[nodiscard]] Outcome start();
  [[nodiscard]] bool ended() const { return process_ != nullptr && process_->ended(); }
  [[nodiscard]] int status() const { return process_->status(); }
  [[nodiscard]] const char* program() const {
    return source_.image().is_stream() ? "the copy of standard input" : "nbdcopy";
  }
  void stop(std::chrono::seconds patience);
  // After its end: tells the progress that it has still told.
  void finish_progress() { progress_.finish(); }

  // What it has said on standard error, with the names that the user knows.
  [[nodiscard]] std::vector<std::string> errors(const std::string& target) const;
  // " near byte N", if it has said where it has failed.
  [[nodiscard]] std::string failed_at() const;

  // The checksum of a stream that was copied, if it was to be made.
  [[nodiscard]] std::string checksum() const { return output_.substr(0, output_.find('\n')); }
  // How a stream differs from what it should be, if that is why it has failed; else empty.
  [[nodiscard]] std::string wrong_length() const;

  // Its words; with a file descriptor for progress if that is not negative.
  static std::vector<std::string> words(const Source& source, const std::string& address,
                                        Purpose purpose, const CopySetup& how,
                                        const std::string& progress);

 private:
  EventLoop& loop_;
  const Source& source_;
  const std::string address_;
  const Purpose purpose_;
  const CopySetup how_;
  ProgressPipe progress_;
  std::string output_;
  std::vector<std::string> said_;
  std::unique_ptr<Process> process_;
};

}  // namespace nbdupload
