// SPDX-License-Identifier: BSD-3-Clause
//
// What is known to be zero, as a hole or by an NBD server's word, is not read.

#include "source_digest.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "block_hash.h"
#include "console.h"
#include "disk_reader.h"

namespace nbdupload {

namespace {

constexpr char kFlag[] = "--digest";

int print_digest(DiskReader& reader, uint64_t size, int progress) {
  BlockHash hash;
  std::vector<char> buffer(BlockHash::kBlock);
  uint64_t told = 0;
  for (uint64_t offset = 0; offset < size;) {
    const auto count = static_cast<size_t>(std::min<uint64_t>(buffer.size(), size - offset));
    if (reader.is_known_zero(offset, count)) {
      hash.add_zeroes(count);
    } else {
      if (!reader.read(buffer.data(), count, offset)) return 1;
      hash.add({buffer.data(), count});
    }
    offset += count;
    const auto percent =
        static_cast<uint64_t>(static_cast<double>(offset) / static_cast<double>(size) * 100);
    if (progress >= 0 && percent != told) write_all(progress, std::to_string(percent) + "/100\n");
    told = percent;
  }
  return puts(hash.finish().c_str()) >= 0 && fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace

std::vector<std::string> digest_words(const std::string& address, uint64_t size, int progress) {
  return {"/proc/self/exe", kFlag, address, std::to_string(size), std::to_string(progress)};
}

void run_digest(int argc, char** argv) {
  if (argc != 5 || strcmp(argv[1], kFlag) != 0) return;
  const uint64_t size = strtoull(argv[3], nullptr, 10);
  const int progress = atoi(argv[4]);
  const std::unique_ptr<DiskReader> reader = DiskReader::open(argv[2], true);
  exit(reader != nullptr ? print_digest(*reader, size, progress) : 1);
}

}  // namespace nbdupload
