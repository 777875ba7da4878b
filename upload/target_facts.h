// SPDX-License-Identifier: BSD-3-Clause
//
// What an NBD server tells of its export, as nbdinfo(1) prints it. Values.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace nbdupload {

struct TargetFacts {
  uint64_t size = 0;
  bool read_only = false;
  uint64_t least_block = 1;  // requests are whole blocks of so many bytes
};

// From the output of `nbdinfo --json`; nothing: it tells no size.
[[nodiscard]] std::optional<TargetFacts> parse_target_facts(const std::string& output);

}  // namespace nbdupload
