// SPDX-License-Identifier: BSD-3-Clause
//
// All numbers are big-endian. The time stamp and the unique id are constant: a managed disk has an
// identity of its own, and nobody asks the footer.

#include "target/vhd_footer.h"

#include <algorithm>
#include <cstring>

namespace upload::target {

namespace {

// Where the fields are, in bytes.
constexpr size_t kCookie = 0;
constexpr size_t kFeatures = 8;
constexpr size_t kVersion = 12;
constexpr size_t kDataOffset = 16;
constexpr size_t kCreator = 28;
constexpr size_t kCreatorVersion = 32;
constexpr size_t kCreatorHost = 36;
constexpr size_t kOriginalSize = 40;
constexpr size_t kCurrentSize = 48;
constexpr size_t kCylinders = 56;
constexpr size_t kHeads = 58;
constexpr size_t kSectorsPerTrack = 59;
constexpr size_t kDiskType = 60;
constexpr size_t kChecksum = 64;
constexpr size_t kUniqueId = 68;

constexpr uint32_t kFixed = 2;

void put(VhdFooter& footer, size_t at, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    footer[at + i] = static_cast<std::byte>(value >> (8 * (bytes - 1 - i)));
}

uint64_t get(const VhdFooter& footer, size_t at, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i)
    value = value << 8 | std::to_integer<uint64_t>(footer[at + i]);
  return value;
}

void put_text(VhdFooter& footer, size_t at, const char* text) {
  memcpy(footer.data() + at, text, strlen(text));
}

// The complement of the sum of all bytes but the checksum's own.
uint32_t checksum_of(const VhdFooter& footer) {
  uint32_t sum = 0;
  for (size_t i = 0; i < footer.size(); ++i)
    if (i < kChecksum || i >= kChecksum + 4) sum += std::to_integer<uint32_t>(footer[i]);
  return ~sum;
}

struct Geometry {
  uint64_t cylinders;
  uint64_t heads;
  uint64_t sectors;
};

// "Appendix: CHS Calculation".
Geometry geometry_of(uint64_t size) {
  constexpr uint64_t kMostCylinders = 65535;
  uint64_t total = std::min(size / 512, kMostCylinders * 16 * 255);
  if (total >= kMostCylinders * 16 * 63) return {total / 255 / 16, 16, 255};
  uint64_t sectors = 17;
  uint64_t heads = std::max<uint64_t>(4, (total / sectors + 1023) / 1024);
  if (total / sectors >= heads * 1024 || heads > 16) {
    sectors = 31;
    heads = 16;
  }
  if (total / sectors >= heads * 1024) sectors = 63;
  return {total / sectors / heads, heads, sectors};
}

}  // namespace

VhdFooter make_vhd_footer(uint64_t size) {
  VhdFooter footer = {};
  put_text(footer, kCookie, "conectix");
  put(footer, kFeatures, 2, 4);  // reserved, always set
  put(footer, kVersion, 0x00010000, 4);
  put(footer, kDataOffset, UINT64_MAX, 8);  // of fixed disks
      // Of the creators for whom readers such as QEMU take the size from the field of that name, and not
  // from the geometry, which is rounded: Hyper-V.
  put_text(footer, kCreator, "win ");
  put(footer, kCreatorVersion, 0x00010000, 4);
  put_text(footer, kCreatorHost, "Wi2k");
  put(footer, kOriginalSize, size, 8);
  put(footer, kCurrentSize, size, 8);
  const Geometry geometry = geometry_of(size);
  put(footer, kCylinders, geometry.cylinders, 2);
  put(footer, kHeads, geometry.heads, 1);
  put(footer, kSectorsPerTrack, geometry.sectors, 1);
  put(footer, kDiskType, kFixed, 4);
  put_text(footer, kUniqueId, "nbdkit-upload-1\n");
  put(footer, kChecksum, checksum_of(footer), 4);
  return footer;
}

bool is_vhd_footer(const VhdFooter& footer, uint64_t size) {
  return memcmp(footer.data() + kCookie, "conectix", 8) == 0 &&
         get(footer, kChecksum, 4) == checksum_of(footer) &&
         get(footer, kCurrentSize, 8) == size && get(footer, kDiskType, 4) == kFixed;
}

}  // namespace upload::target
