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
  bool checksum = false;  // verify by checksum, instead of reading back
  bool dry_run = false;
  bool quiet = false;
  bool verbose = false;
  bool target_is_zero = false;
  bool zero_rest = false;
  bool stats = false;
  bool help = false;
  bool version = false;
  std::string progress_fd;  // empty: none
  std::string log;          // a file; empty: none
  std::string size;         // of standard input; empty: it is not told
  std::string rate;         // bits a second, as nbdkit's filter takes them; empty: no limit
  std::vector<std::string> filters;
  std::string plugin = DEFAULT_PLUGIN;
  std::string progress;           // how it is shown; empty: as suits
  std::vector<std::string> maps;  // IMAGE=URL
  std::string list;               // a file of them; empty: none
  int jobs = 4;                   // copies at a time
  std::vector<std::string>
      words;  // IMAGE, URL and KEY=VALUE; with maps or a list the latter only

  [[nodiscard]] bool has_list() const { return !maps.empty() || !list.empty(); }
};

[[nodiscard]] Or<Options> parse_options(int argc, const char* const* argv);

// What --help prints.
extern const char* const kUsage;

}  // namespace nbdupload
