// SPDX-License-Identifier: BSD-3-Clause
//
// Options: the command line, taken apart. What its words mean is for others to check.

#pragma once

#include <string>
#include <vector>

#include "outcome.h"

namespace nbdupload {

struct Options {
  std::string format;  // empty: it is detected
  bool allow_larger = false;
  bool verify = false;
  bool dry_run = false;
  bool quiet = false;
  bool verbose = false;
  bool target_is_zero = false;
  bool zero_rest = false;
  bool help = false;
  bool version = false;
  std::string progress_fd;  // empty: none
  std::string log;          // a file; empty: none
  std::string rate;         // bits a second, as nbdkit's filter takes them; empty: no limit
  std::vector<std::string> filters;
  std::string plugin = "upload";
  std::string image, url;
  std::vector<std::string> parameters;  // KEY=VALUE

  // How many of IMAGE and URL were given.
  int positional = 0;
};

[[nodiscard]] Or<Options> parse_options(int argc, const char* const* argv);

// What --help prints.
extern const char* const kUsage;

}  // namespace nbdupload
