// SPDX-License-Identifier: BSD-3-Clause
//
// The footer of a fixed VHD, by which Azure knows a managed disk: the last 512 bytes, behind the
// image. Pure functions.
// Source: Microsoft, Virtual Hard Disk Image Format Specification, "Hard Disk Footer Format".

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace upload::target {

inline constexpr uint64_t kVhdFooter = 512;
using VhdFooter = std::array<std::byte, kVhdFooter>;

// Of an image of so many bytes. The same for each image of that size.
[[nodiscard]] VhdFooter make_vhd_footer(uint64_t size);
// Is it a footer, whoever has written it, of a fixed disk of that size?
[[nodiscard]] bool is_vhd_footer(const VhdFooter& footer, uint64_t size);

}  // namespace upload::target
