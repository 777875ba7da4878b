// SPDX-License-Identifier: BSD-3-Clause
//
// What is the same for every target: what a status code means, and reading a part of a disk
// (RFC 9110, section 14). Pure functions.

#pragma once

#include <string>

#include "base/byte_range.h"
#include "base/status.h"
#include "http/message.h"

namespace upload::target {

// Of the reply to what was asked.
[[nodiscard]] Status malformed(const std::string& why);

// Success if the reply has the status `success`; else a failure of the kind
// that the status stands for (RFC 9110, section 15), whose text has the
// status and an excerpt of the body (base/redact.h).
[[nodiscard]] Status classify(const http::Reply& reply, int success);

// "write 4096 bytes at offset 0"
[[nodiscard]] std::string describe(const char* what, ByteRange range);

// GET of a range; `sink` is range.length bytes.
[[nodiscard]] http::Request read_range(std::string target, ByteRange range, void* sink);
// Is the reply to it what was asked for, and whole?
[[nodiscard]] Status check_partial(const http::Reply& reply, ByteRange range);

}  // namespace upload::target
