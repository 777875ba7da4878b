// SPDX-License-Identifier: BSD-3-Clause
//
// What programs say: which line tells why one has failed, and which are worth showing.
//
// Nothing here is believed to be more than words, since a server or an image may have
// chosen them: success is exit statuses alone. Values; pure functions.

#pragma once

#include <deque>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace nbdupload {

// The reason in the last line that a program has printed, without its name.
[[nodiscard]] std::string last_words(const std::vector<std::string>& lines);

// A line that `nbdkit --verbose` adds.
[[nodiscard]] bool is_debug(std::string_view line);

// `text` with each `from` replaced by `to`; an empty `from` is nowhere.
[[nodiscard]] std::string replaced(std::string text, std::string_view from, std::string_view to);

// What nbdkit with the upload plugin says on standard error.
class NbdkitSaid {
 public:
  // Another nbdkit is started; what the one before has said while it started, such as a
  // warning, is not shown again.
  void begin();
  // It serves.
  void has_started() { starting_ = false; }
  void add(const std::string& line);

  // What was added since the last call of this and is worth showing, in order. One failure
  // meets many requests, so an error is shown once, and only the first few are.
  [[nodiscard]] std::vector<std::string> take_shown();

  // The text of the line that was the first to be called an error; empty: none was. What
  // comes later may be a server's words.
  [[nodiscard]] const std::string& first_error() const { return first_error_; }
  [[nodiscard]] int errors() const { return errors_; }
  // The first error is told elsewhere, as the reason of the end.
  void leave_out_first_error();
  // The filter checkwrite has found a difference.
  [[nodiscard]] bool mismatch() const { return mismatch_; }
  [[nodiscard]] std::string last() const;

 private:
  [[nodiscard]] bool is_worth_showing(const std::string& line);

  std::deque<std::string> unshown_;
  std::set<std::string> shown_;  // without what precedes the text of an error
  int errors_ = 0, errors_shown_ = 0;
  bool starting_ = false, mismatch_ = false;
  std::string first_error_, first_error_line_, last_;
};

}  // namespace nbdupload
