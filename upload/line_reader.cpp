// SPDX-License-Identifier: BSD-3-Clause
//
// A line is kept up to a limit, so that a program that never ends one fills no memory.

#include "line_reader.h"

#include <algorithm>
#include <utility>

namespace nbdupload {

namespace {

// In bytes; more than is ever shown of a line.
constexpr size_t kLongest = 65536;

}  // namespace

void LineReader::take(std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    line_ += text.substr(0, std::min(end, kLongest - line_.size()));
    if (end == text.size()) return;
    on_line_(std::exchange(line_, {}));
    text.remove_prefix(end + 1);
  }
}

void LineReader::finish() {
  if (!line_.empty()) on_line_(std::exchange(line_, {}));
}

}  // namespace nbdupload
