// SPDX-License-Identifier: BSD-3-Clause
//
// Lines are recognised by their beginning: the end may be a server's words.

#include "said.h"

#include <algorithm>
#include <utility>

namespace nbdupload {

namespace {

// The first error is the cause; more than a few help nobody.
constexpr int kMostErrors = 3;
// Lines that are remembered as shown, and that wait to be shown.
constexpr size_t kMostLines = 1000;

bool remove_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// How many of these characters `text` begins with.
size_t span(std::string_view text, std::string_view characters) {
  return std::min(text.find_first_not_of(characters), text.size());
}

constexpr std::string_view kDigits = "0123456789";
// Of the name of one of nbdkit's threads, such as "upload.3" or "upload[1]".
constexpr std::string_view kThread = "abcdefghijklmnopqrstuvwxyz0123456789.-[]";

// "error: TEXT" or "upload.1: error: TEXT": the text; else nothing.
std::string_view error_of_thread(std::string_view line) {
  if (remove_prefix(line, "error: ")) return line;
  line.remove_prefix(span(line, kThread));
  return remove_prefix(line, ": error: ") ? line : std::string_view();
}

// "nbdkit: error: TEXT" or "nbdkit: upload.1: error: TEXT": the text; else nothing.
std::string_view error_text(std::string_view line) {
  return remove_prefix(line, "nbdkit: ") ? error_of_thread(line) : std::string_view();
}

// "nbdkit: upload.1: error: TEXT", which a request's own thread has said.
std::string_view request_error(std::string_view line) {
  if (!remove_prefix(line, "nbdkit: upload.")) return {};
  const size_t digits = span(line, kDigits);
  line.remove_prefix(digits);
  return digits > 0 && remove_prefix(line, ": error: ") ? line : std::string_view();
}

// nbdkit's abort when a client has vanished (1.32):
// "nbdkit: FILE:LINE: FUNCTION: Assertion `sock >= 0' failed."
bool is_abort(std::string_view line) {
  return line.starts_with("nbdkit: ") &&
         line.find(": Assertion `sock >= 0' failed") != std::string_view::npos &&
         error_text(line).empty();
}

// When nbdcopy has left because of an error, nbdkit complains of that too.
bool is_consequence(std::string_view line) {
  std::string_view text = request_error(line);
  if (!remove_prefix(text, "read ") && !remove_prefix(text, "write ")) return is_abort(line);
  return text.starts_with("data") || text.starts_with("reply") || text.starts_with("request");
}

}  // namespace

bool is_debug(std::string_view line) {
  if (!remove_prefix(line, "nbdkit: ")) return false;
  if (line.starts_with("debug: ")) return true;
  if (line.starts_with("error: ")) return false;
  line.remove_prefix(span(line, kThread));
  return line.starts_with(": debug: ");
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  if (from.empty()) return text;
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

std::string last_words(const std::vector<std::string>& lines) {
  const auto is_reason = [](const std::string& line) {
    return !line.empty() &&
           !(line.starts_with("Use ") && line.find(" for documentation") != std::string::npos);
  };
  const auto found = std::find_if(lines.rbegin(), lines.rend(), is_reason);
  if (found == lines.rend()) return "no reason was given";
  std::string_view words = *found;
  for (const std::string_view name :
       {"nbdkit: ", "error: ", "qemu-img: ", "qemu-nbd: ", "nbdinfo: "})
    remove_prefix(words, name);
  // One of nbdkit's threads: "file[1]: error: ".
  if (const std::string_view text = error_of_thread(words); !text.empty()) words = text;
  // qemu-nbd names the image by the JSON that it was given.
  if (words.starts_with("Failed to blk_new_open 'json:")) {
    const size_t end = words.find("': ");
    if (end != std::string_view::npos) words.remove_prefix(end + 3);
  }
  return std::string(words);
}

void NbdkitSaid::add(const std::string& line) {
  if (!line.empty()) last_ = line;
  if (request_error(line) == "data written does not match expected") {
    mismatch_ = true;
    return;
  }
  if (const std::string_view text = error_text(line); !text.empty()) {
    ++errors_;
    if (first_error_.empty()) {
      first_error_ = text;
      first_error_line_ = line;
    }
  }
  if (is_worth_showing(line)) unshown_.push_back(line);
}

bool NbdkitSaid::is_worth_showing(const std::string& line) {
  if (line.empty() || is_consequence(line) || unshown_.size() >= kMostLines) return false;
  const bool is_error = line.find("error:") != std::string::npos;
  // An outage is told each time.
  if (!is_error && !starting_) return true;
  // What several threads say of one error differs in what precedes it only.
  const size_t text = line.find("error: ");
  if (shown_.size() >= kMostLines ||
      !shown_.insert(text == std::string::npos ? line : line.substr(text)).second)
    return false;
  return !is_error || ++errors_shown_ <= kMostErrors;
}

void NbdkitSaid::begin() {
  unshown_.clear();
  errors_ = 0;
  starting_ = true;
  mismatch_ = false;
  first_error_.clear();
  first_error_line_.clear();
  last_.clear();
}

void NbdkitSaid::leave_out_first_error() {
  std::erase_if(unshown_, [&](const std::string& line) {
    return line == first_error_line_ ||
           (line.starts_with("Use ") && line.find(" for doc") != std::string::npos);
  });
}

std::vector<std::string> NbdkitSaid::take_shown() {
  std::vector<std::string> lines;
  for (std::string& line : std::exchange(unshown_, {}))
    // Else it could be taken for one of nbdupload's.
    lines.push_back(line.starts_with("nbdkit:") ? std::move(line) : "nbdkit: " + line);
  return lines;
}

std::string NbdkitSaid::last() const {
  return last_words(last_.empty() ? std::vector<std::string>() : std::vector{last_});
}

}  // namespace nbdupload
