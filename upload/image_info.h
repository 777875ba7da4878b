// SPDX-License-Identifier: BSD-3-Clause
//
// ImageInfo: what `qemu-img info --output=json` tells of an image. A value.

#pragma once

#include <string>
#include <vector>

namespace nbdupload {

struct ImageInfo {
  std::string format;  // empty: it is not told
  // The files that the image refers to, other than itself, at any depth, each once.
  std::vector<std::string> references;
};

// Of the image, or with --backing-chain of it and those below.
[[nodiscard]] ImageInfo parse_image_info(const std::string& output);

// Names for a message, "A', 'B", as qemu writes them: what is not ASCII is \uXXXX.
[[nodiscard]] std::string shown_references(const std::vector<std::string>& names);

}  // namespace nbdupload
