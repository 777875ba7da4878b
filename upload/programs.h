// SPDX-License-Identifier: BSD-3-Clause
//
// The programs that nbdupload runs: whether they are there, and the right ones.

#pragma once

#include <string>

#include "event_loop.h"
#include "outcome.h"

namespace nbdupload {

// qemu-img is needed unless the image is known to be raw.
[[nodiscard]] Outcome check_programs(bool needs_qemu_img);

// The version of the plugin, which is nbdupload's too. Fails if it is not the upload plugin,
// or if the filter that --verify needs is missing.
[[nodiscard]] Or<std::string> check_plugin(EventLoop& loop, const std::string& plugin,
                                           bool verify);

}  // namespace nbdupload
