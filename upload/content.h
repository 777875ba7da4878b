// SPDX-License-Identifier: BSD-3-Clause
//
// What a file is by its first bytes, as far as that keeps it from being a disk, and which of the
// files in a tar archive are disks. Pure.

#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nbdupload {

// How many of the first bytes are needed.
inline constexpr size_t kFirstBytes = 512;

struct Archive {
  std::string what;    // "a gzip file"; empty: it is none
  std::string filter;  // nbdkit's, which unpacks it; empty: there is none
};

// `first`: so many bytes of the file, or fewer if it is shorter.
[[nodiscard]] Archive archive_of(std::string_view first);

// Of names, one a line, those of disks: by their ends.
[[nodiscard]] std::vector<std::string> disk_names(std::string_view lines);

}  // namespace nbdupload
