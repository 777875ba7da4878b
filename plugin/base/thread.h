// SPDX-License-Identifier: BSD-3-Clause
//
// Thread: a thread of the plugin's own, with the interface of std::thread. The
// simulation has another one by this name, as it has another base/mutex.h.

#pragma once

#include <thread>

namespace upload {

using Thread = std::thread;

}  // namespace upload
