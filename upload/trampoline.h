// SPDX-License-Identifier: BSD-3-Clause
//
// The trampoline: how a program becomes a child that can't outlive nbdupload.
//
// posix_spawn(3) can't ask the kernel for a signal at the parent's death, or set a limit.
// So nbdupload starts itself with trampoline_words(), and run_trampoline() does both and
// then becomes the program, with the same process id.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nbdupload {

// The arguments of nbdupload by which it becomes the program `words`, which has `memory`
// bytes for data, heap and stacks at most.
[[nodiscard]] std::vector<std::string> trampoline_words(uint64_t memory,
                                                        const std::vector<std::string>& words);

// Becomes a program if the arguments are such, and returns otherwise.
void run_trampoline(int argc, char** argv);

}  // namespace nbdupload
