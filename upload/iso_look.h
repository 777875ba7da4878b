// SPDX-License-Identifier: BSD-3-Clause
//
// Is an image that of a CD (ISO 9660, ECMA-119) with an OVA on it? As a medium for a guest it may be
// uploaded; but somebody who has got disks in it wants those.

#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace nbdupload {

// The name of a file on it that is an OVA or an OVF; empty: there is none, or it is no such image.
// `read` gives so many bytes at an offset, or fewer. What the image says is not trusted.
[[nodiscard]] std::string find_ova(
    const std::function<std::string(uint64_t offset, size_t count)>& read);

// A program and its arguments that print that name.
[[nodiscard]] std::vector<std::string> iso_look_words(const std::string& address);

// Does that and ends, if the arguments are such; returns otherwise.
void run_iso_look(int argc, char** argv);

}  // namespace nbdupload
