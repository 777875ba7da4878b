// SPDX-License-Identifier: BSD-3-Clause
//
// LineReader: what comes through a pipe, line by line. Pure but for the read.

#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace nbdupload {

class LineReader {
 public:
  explicit LineReader(std::function<void(std::string)> on_line) : on_line_(std::move(on_line)) {}

  // Takes more of the text; calls on_line for each line that is complete, without its end.
  // A very long line is cut.
  void take(std::string_view text);
  // The text is at its end: what is left is a line too.
  void finish();

 private:
  std::function<void(std::string)> on_line_;
  std::string line_;
};

}  // namespace nbdupload
