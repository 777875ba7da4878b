// SPDX-License-Identifier: BSD-3-Clause
//
// The disk that the tests of a volume write to.

#pragma once

#include "volume/volume.h"

namespace upload::testing {

constexpr uint64_t kBlock = 4096;

inline volume::VolumeOptions disk_options(uint64_t blocks) {
  volume::VolumeOptions options;
  options.name = "disk";
  options.target = target::make_target("imageio", http::parse_url("https://h/images/t").value());
  options.capabilities.traits.durability = target::Durability::kOnFlush;
  options.capabilities.can_zero = true;
  options.size = blocks * kBlock;
  options.limits = {16 * kBlock, 64 * kBlock, kBlock, false};
  return options;
}

// In the order that an Instance keeps.
inline void end(volume::Volume& volume, upstream::Pool& pool) {
  volume.request_stop();
  pool.close();
  volume.join();
}

}  // namespace upload::testing
