// SPDX-License-Identifier: BSD-3-Clause
//
// Process: a program that nbdupload has started, from posix_spawn(3) to its exit status.
//
// It reads nothing from standard input. What it prints comes as lines or as a text, while
// the event loop runs. It ends with nbdupload at the latest (trampoline.h).

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "event_loop.h"
#include "file_descriptor.h"
#include "line_reader.h"
#include "outcome.h"

namespace nbdupload {

class Process {
 public:
  struct Setup {
    std::vector<std::string> words;  // the program, looked for in PATH, and its arguments
    uint64_t memory = 0;             // what it may have at most, in bytes
    bool own_session = false;        // a terminal's Ctrl-C does not reach it
    std::vector<int> inherited;      // file descriptors that it gets, by the same numbers
    std::string* output = nullptr;   // what it prints is added to that; nullptr: it is lost
    std::function<void(std::string)> on_error_line;
  };

  // The loop must outlive it, and so must what the setup refers to.
  static Or<std::unique_ptr<Process>> start(EventLoop& loop, Setup setup);

  // Kills it if it is still running.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] const std::string& name() const { return setup_.words[0]; }
  // It has ended, and all that it had to say has come.
  [[nodiscard]] bool ended() const { return ended_; }
  // As a shell tells it: 128 + signal if one has ended it. Only if ended().
  [[nodiscard]] int status() const { return status_; }

  void send(int signal) const;

  // Tells it to end, and kills it when it has not after so long. Afterwards it has ended,
  // unless a signal that ends nbdupload came first.
  EventLoop::End stop(std::chrono::seconds patience);

 private:
  Process(EventLoop& loop, Setup setup);
  [[nodiscard]] Outcome spawn();
  void drain(FileDescriptor& pipe, const std::function<void(std::string_view)>& take);
  void drain_output();
  void drain_errors();
  void reap();

  EventLoop& loop_;
  const Setup setup_;
  LineReader errors_;
  pid_t pid_ = -1;
  FileDescriptor pidfd_, output_pipe_, error_pipe_;
  bool ended_ = false;
  int status_ = 0;
};

// The name of an exit status above 128: "SIGKILL".
[[nodiscard]] std::string signal_name(int signal);

// Is there such a program in PATH?
[[nodiscard]] bool is_in_path(const std::string& program);

}  // namespace nbdupload
