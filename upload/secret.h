// SPDX-License-Identifier: BSD-3-Clause
//
// Secrets: read as nbdkit reads them, and handed to a program through a pipe.
//
// A secret is in no process list (but nbdupload's own, if it was typed there), file or
// message.

#pragma once

#include <string>

#include "event_loop.h"
#include "file_descriptor.h"
#include "outcome.h"

namespace nbdupload {

// The secret that KEY=VALUE means: the first line of a file (+FILE) or of a file descriptor
// (-FD), what is typed at the terminal or read from standard input (-), or VALUE itself.
// Waits for it in the loop, so that a signal puts an end to that.
[[nodiscard]] Or<std::string> read_secret(EventLoop& loop, const std::string& key,
                                          const std::string& value);

// The end of a pipe from which the secret can be read, as one line.
[[nodiscard]] Or<FileDescriptor> secret_pipe(const std::string& key, const std::string& secret);

}  // namespace nbdupload
