// SPDX-License-Identifier: BSD-3-Clause
//
// ConnectionId: which connection. Unique within a pool and never used again, so that one
// that was opened in the place of another is never taken for it.

#pragma once

#include <cstdint>

namespace upload {

using ConnectionId = uint64_t;
// Stands for no connection.
inline constexpr ConnectionId kNoConnection = 0;

}  // namespace upload
