// SPDX-License-Identifier: BSD-3-Clause
//
// The magic numbers are those of file(1). A disk's first bytes are those of its boot
// sector, which begins with an instruction or with zeroes.

#include "content.h"

namespace nbdupload {

namespace {

using namespace std::string_view_literals;

struct Magic {
  size_t offset;
  std::string_view bytes;
  const char* what;
  const char* advice;
};

constexpr Magic kMagics[] = {
    {0, "\x1f\x8b"sv, "a gzip file", "unpack it with gunzip"},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "an xz file", "unpack it with unxz"},
    {0, "PK\x03\x04"sv, "a zip archive", "unpack it with unzip"},
    {0, "BZh"sv, "a bzip2 file", "unpack it with bunzip2"},
    {0, "\x28\xb5\x2f\xfd"sv, "a zstd file", "unpack it with unzstd"},
    {257, "ustar"sv, "a tar archive (an OVA is one)", "unpack it with 'tar -x'"},
};

}  // namespace

Archive archive_of(std::string_view first) {
  for (const Magic& magic : kMagics)
    if (first.size() >= magic.offset + magic.bytes.size() &&
        first.substr(magic.offset, magic.bytes.size()) == magic.bytes)
      return {magic.what, magic.advice};
  return {};
}

}  // namespace nbdupload
