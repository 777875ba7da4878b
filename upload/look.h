// SPDX-License-Identifier: BSD-3-Clause
//
// look(): runs a program that examines something, with limited time and memory.

#pragma once

#include <string>
#include <vector>

#include "event_loop.h"
#include "outcome.h"

namespace nbdupload {

// So long may a program take that looks at something or begins to serve. An image of 60 TiB
// that has a table with 8 bytes for each MiB needs some seconds.
inline constexpr std::chrono::seconds kLookTime{60};

struct Looked {
  int status = 0;  // as Process::status()
  std::string output;
  std::vector<std::string> errors;  // lines

  // A signal has ended it, or nbdupload has, as it was too slow.
  [[nodiscard]] bool was_ended() const { return status > 128; }
  [[nodiscard]] std::string last_words() const;
};

// Fails if the program can't be started, or nbdupload is to end.
[[nodiscard]] Or<Looked> look(EventLoop& loop, std::vector<std::string> words,
                              std::vector<int> inherited = {},
                              std::chrono::seconds time = kLookTime);

// "PROGRAM has not answered in 60 seconds"
[[nodiscard]] std::string too_slow(const std::string& program);

}  // namespace nbdupload
