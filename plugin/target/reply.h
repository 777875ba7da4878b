// SPDX-License-Identifier: BSD-3-Clause
//
// What a status code means, the same for every target. Pure functions.

#pragma once

#include <string>

#include "base/status.h"
#include "http/message.h"

namespace upload::target {

// Success if the reply has the status `success`; else a failure of the kind
// that the status stands for (RFC 9110, section 15), whose text has the
// status and the first 200 bytes of the body.
[[nodiscard]] Status classify(const http::Reply& reply, int success);

// At most 200 bytes of `text`, on one line, without control characters.
[[nodiscard]] std::string printable(const std::string& text);

}  // namespace upload::target
