// SPDX-License-Identifier: BSD-3-Clause
//
// Target: the disk at a server that one image goes to. A value.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "event_loop.h"
#include "outcome.h"

namespace nbdupload {

struct Target {
  std::string image;             // the image's name, as messages show it
  std::string url;               // a secret, as the ticket is in it
  std::string name;              // what may be shown of the URL
  std::string shown;             // the same, or +FILE: as the user has said it
  std::optional<uint64_t> size;  // what the plugin is told, in bytes

  // From an upload URL, or +FILE. Failures name no secret.
  static Or<Target> from_argument(EventLoop& loop, const std::string& argument);
};

}  // namespace nbdupload
