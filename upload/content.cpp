// SPDX-License-Identifier: BSD-3-Clause
//
// The magic numbers are those of file(1). A disk's first bytes are those of its boot
// sector, which begins with an instruction or with zeroes.

#include "content.h"

#include <algorithm>
#include <iterator>

namespace nbdupload {

namespace {

using namespace std::string_view_literals;

struct Magic {
  size_t offset;
  std::string_view bytes;
  const char* what;
  const char* filter;
};

constexpr Magic kMagics[] = {
    {0, "\x1f\x8b"sv, "a gzip file", "gzip"},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "an xz file", "xz"},
    {0, "PK\x03\x04"sv, "a zip archive", ""},
    {0, "BZh"sv, "a bzip2 file", ""},
    {0, "\x28\xb5\x2f\xfd"sv, "a zstd file", ""},
    {257, "ustar"sv, "a tar archive", "tar"},
};

bool is_disk_name(std::string_view name) {
  constexpr std::string_view kEnds[] = {".vmdk", ".vhd", ".vhdx", ".vdi", ".qcow2",
                                        ".qcow", ".qed", ".hdd",  ".img", ".raw"};
  std::string lower(name);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return std::any_of(std::begin(kEnds), std::end(kEnds),
                     [&](std::string_view end) { return lower.ends_with(end); });
}

}  // namespace

Archive archive_of(std::string_view first) {
  for (const Magic& magic : kMagics)
    if (first.size() >= magic.offset + magic.bytes.size() &&
        first.substr(magic.offset, magic.bytes.size()) == magic.bytes)
      return {magic.what, magic.filter};
  return {};
}

std::vector<std::string> disk_names(std::string_view lines) {
  std::vector<std::string> names;
  while (!lines.empty()) {
    const std::string_view name = lines.substr(0, lines.find('\n'));
    if (is_disk_name(name)) names.emplace_back(name);
    lines.remove_prefix(std::min(name.size() + 1, lines.size()));
  }
  return names;
}

}  // namespace nbdupload
