// SPDX-License-Identifier: BSD-3-Clause
//
// What a fuzz target asserts, in every build.

#pragma once

#include <cstdio>
#include <cstdlib>

namespace upload::fuzz {

// The others are the caller's: clang 14 lacks std::source_location.
inline void check(bool holds, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (holds) return;
  fprintf(stderr, "%s:%d: does not hold\n", file, line);
  abort();
}

}  // namespace upload::fuzz
