// SPDX-License-Identifier: BSD-3-Clause
//
// What a file is by its first bytes, as far as that keeps it from being a disk. Pure.

#pragma once

#include <string>
#include <string_view>

namespace nbdupload {

// How many of the first bytes are needed.
inline constexpr size_t kFirstBytes = 512;

struct Archive {
  std::string what;    // "a gzip file"; empty: it is none
  std::string advice;  // how what is in it can be uploaded
};

// `first`: so many bytes of the file, or fewer if it is shorter.
[[nodiscard]] Archive archive_of(std::string_view first);

}  // namespace nbdupload
