// SPDX-License-Identifier: BSD-3-Clause
//
// The checksum (block_hash.h) of a disk that is read here: of an image, by another nbdupload.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nbdupload {

// The program and its arguments. The image is an open file by its name, /dev/fd/N, or what an NBD
// server offers, of so many bytes. It prints the checksum; lines of N/100 go to the file descriptor
// `progress`, unless that is negative.
[[nodiscard]] std::vector<std::string> digest_words(const std::string& address, uint64_t size,
                                                    int progress);

// Does that and ends, if the arguments are such; returns otherwise.
void run_digest(int argc, char** argv);

}  // namespace nbdupload
