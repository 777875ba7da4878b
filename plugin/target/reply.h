// SPDX-License-Identifier: BSD-3-Clause
//
// What a status code means, the same for every target. Pure functions.

#pragma once

#include "base/status.h"
#include "http/message.h"

namespace upload::target {

// Success if the reply has the status `success`; else a failure of the kind
// that the status stands for (RFC 9110, section 15), whose text has the
// status and an excerpt of the body (base/redact.h).
[[nodiscard]] Status classify(const http::Reply& reply, int success);

}  // namespace upload::target
