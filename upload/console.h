// SPDX-License-Identifier: BSD-3-Clause
//
// Console: the only writer of standard error.
//
// Whatever is in a file's name or comes from a server or a program, what is printed is one
// printable line (plugin/base/printable.h) of limited length: it can't move the cursor, and
// it can't pass for a line of somebody else.

#pragma once

#include <string>
#include <string_view>

#include "file_descriptor.h"

namespace nbdupload {

// What stands below the lines on a terminal and must make room for each: the bars.
class Footer {
 public:
  virtual ~Footer() = default;
  virtual void erase() = 0;
  virtual void draw() = 0;
};

class Console {
 public:
  // Remarks are what is neither a warning nor an error; they can be turned off.
  void set_quiet(bool quiet) { quiet_ = quiet; }
  [[nodiscard]] bool quiet() const { return quiet_; }

  // Adds all that is printed to the file too, each line with its time. False: it can't be opened.
  [[nodiscard]] bool open_log(const std::string& file);
  [[nodiscard]] bool has_log() const { return log_.is_open(); }
  // A line for the log only.
  void log(std::string_view text);

  // `footer` is drawn below all lines from now on; nullptr: none is. Not owned.
  void set_footer(Footer* footer) { footer_ = footer; }

  // A line of nbdupload's own, with its name before it.
  void say(std::string_view text) { line("nbdupload: " + std::string(text)); }
  void remark(std::string_view text) {
    quiet_ ? log("nbdupload: " + std::string(text)) : say(text);
  }
  // A line as it is.
  void line(std::string_view text);

 private:
  bool quiet_ = false;
  FileDescriptor log_;
  Footer* footer_ = nullptr;
};

// `text` made printable, and cut if it is very long.
[[nodiscard]] std::string shown_line(std::string_view text);

// All of `text` to a file descriptor, as far as it takes it.
void write_all(int fd, std::string_view text);

}  // namespace nbdupload
