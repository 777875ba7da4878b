// SPDX-License-Identifier: BSD-3-Clause
//
// Whether the end of what an NBD server offers is all zeroes.
//
// It is read by another nbdupload, so that it has limited time and memory as all programs
// have that look at something.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nbdupload {

// The program and its arguments. It prints "zero" or "data".
[[nodiscard]] std::vector<std::string> zero_look_words(const std::string& address,
                                                       uint64_t offset);

// Does that and ends, if the arguments are such; returns otherwise.
void run_zero_look(int argc, char** argv);

}  // namespace nbdupload
