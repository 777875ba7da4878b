// SPDX-License-Identifier: BSD-3-Clause
//
// What is common to imageio's texts in JSON. Pure functions.

#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/status.h"

namespace upload::target {

// A whole number that is at least `least`, and at most INT64_MAX.
inline std::optional<uint64_t> number_in(const nlohmann::json& object, const char* key,
                                         uint64_t least) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_unsigned()) return std::nullopt;
  const uint64_t value = found->get<uint64_t>();
  if (value < least || value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return value;
}

}  // namespace upload::target
