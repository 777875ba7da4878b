// SPDX-License-Identifier: BSD-3-Clause
//
// format(): a string made as by printf(3). Thread safe.

#pragma once

#include <cstdarg>
#include <string>

namespace upload {

[[nodiscard]] std::string format(const char* format, ...) __attribute__((format(printf, 1, 2)));

[[nodiscard]] std::string vformat(const char* format, va_list args)
    __attribute__((format(printf, 1, 0)));

}  // namespace upload
