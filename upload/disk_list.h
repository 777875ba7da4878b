// SPDX-License-Identifier: BSD-3-Clause
//
// Which images go where: --map IMAGE=URL and --list FILE. Pure but for reading the file.

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "outcome.h"

namespace nbdupload {

struct Pair {
  std::string image;
  std::string url;     // or +FILE
  std::string format;  // empty: as for all
  // It stands in nbdupload's own arguments, where every user of the system can read it.
  bool is_public = false;
};

// IMAGE=URL or IMAGE=+FILE.
[[nodiscard]] Or<Pair> parse_map(const std::string& text);

// JSON, an array of {"image": ..., "url": ..., "format": ...}, or lines of IMAGE, URL and
// perhaps a format with tabs between them. Failures name the place and no secret.
[[nodiscard]] Or<std::vector<Pair>> parse_list(std::string_view text, const std::string& name);

[[nodiscard]] Or<std::vector<Pair>> read_list(const std::string& file);

}  // namespace nbdupload
