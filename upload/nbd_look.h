// SPDX-License-Identifier: BSD-3-Clause
//
// What an NBD server offers, looked at: its first bytes, and whether its end is all zeroes.
//
// It is read by another nbdupload, so that it has limited time and memory as all programs
// have that look at something.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nbdupload {

// The program and its arguments. It prints the first bytes (kFirstBytes), or all if there are fewer.
[[nodiscard]] std::vector<std::string> first_look_words(const std::string& address);

// The same for whether all that follows the first `offset` bytes is zero: "zero" or "data".
[[nodiscard]] std::vector<std::string> zero_look_words(const std::string& address,
                                                       uint64_t offset);

// Does the one or the other and ends, if the arguments are such; returns otherwise.
void run_nbd_look(int argc, char** argv);

}  // namespace nbdupload
