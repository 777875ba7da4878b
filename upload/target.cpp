// SPDX-License-Identifier: BSD-3-Clause
//
// What is wrong with a URL beyond its scheme is the plugin's to say, but for the end of a
// line that a file of Windows has: the plugin does not know of the file.

#include "target.h"

#include <algorithm>
#include <string_view>

#include "base/redact.h"
#include "secret.h"
#include "target_url.h"

namespace nbdupload {

namespace {

bool is_one_word(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; });
}

// What is behind the host, where the ticket is.
void register_url(std::string_view url) {
  const size_t scheme = url.find("://");
  const size_t path = url.find_first_of("/?#", scheme + 3);
  if (path != std::string_view::npos) upload::register_parts(url.substr(path));
}

}  // namespace

Or<Target> Target::from_argument(EventLoop& loop, const std::string& argument) {
  const bool from_file = argument.starts_with("+") && argument.size() > 1;
  Or<std::string> read = from_file ? read_secret(loop, "URL", argument) : Or(argument);
  if (!read.ok()) return read.failure();
  const std::string& url = read.value();
  if (url.empty()) return Outcome::usage("URL is empty");
  if (!is_http_url(url))
    return Outcome::usage("URL '" + redacted_url(url) +
                          "' does not begin with https:// or http://");
  if (from_file && !is_one_word(url))
    return Outcome::failed("URL=" + argument +
                           ": the first line has a blank or a control character in it, such as "
                           "the end of a line of Windows (CR LF)");
  register_url(url);
  Target target;
  target.url = url;
  target.name = redacted_url(url);
  target.shown = from_file ? argument : target.name;
  return target;
}

}  // namespace nbdupload
