// SPDX-License-Identifier: BSD-3-Clause
//
// Stream: a raw image of a known size that comes through standard input, copied to an NBD server.
//
// nbdcopy(1) would take a stream that ends early for a whole image, and send its zeroes as data.
// So another nbdupload does this copy, which is told the size.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nbdupload {

struct StreamCopy {
  std::string address;  // of the NBD server
  uint64_t size = 0;    // how much has to come, in bytes
  // File descriptors: what was read of the stream already, the rest of it, and where lines of
  // N/100 go as nbdcopy writes them; negative: nowhere.
  int first = -1, rest = -1, progress = -1;
  bool target_is_zero = false;  // zeroes need not be written
  bool checksum = false;        // it is printed in the end, see block_hash.h
};

// The program and its arguments. Its exit status is 0 only if exactly so much came, all of it was
// written, and a flush has succeeded after that.
[[nodiscard]] std::vector<std::string> stream_words(const StreamCopy& copy);

// Its exit status if the stream was shorter or longer; then its only line on standard error says
// which, as the rest of a sentence.
inline constexpr int kWrongLength = 3;

// Does that and ends, if the arguments are such; returns otherwise.
void run_stream(int argc, char** argv);

}  // namespace nbdupload
