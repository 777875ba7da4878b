// SPDX-License-Identifier: BSD-3-Clause
//
// Runs in the child between posix_spawn(3) and the program: no events, no classes.

#include "trampoline.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace nbdupload {

namespace {

constexpr char kFlag[] = "--become-child";
// The flag, the parent's process id, the memory; then the program.
constexpr int kProgram = 4;

// A sanitised nbdupload, which may be the program, has more shadow memory than any limit allows.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitised = true;
#else
constexpr bool kSanitised = false;
#endif

void limit_memory(const char* program, rlim_t memory) {
  if (kSanitised && strcmp(program, "/proc/self/exe") == 0) return;
  rlimit limit{};
  // A lower limit that there is already stays.
  if (getrlimit(RLIMIT_DATA, &limit) != 0 || limit.rlim_cur <= memory) return;
  limit.rlim_cur = memory;
  setrlimit(RLIMIT_DATA, &limit);
}

}  // namespace

std::vector<std::string> trampoline_words(uint64_t memory,
                                          const std::vector<std::string>& words) {
  std::vector<std::string> all = {"nbdupload", kFlag, std::to_string(getpid()),
                                  std::to_string(memory)};
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

void run_trampoline(int argc, char** argv) {
  if (argc <= kProgram || strcmp(argv[1], kFlag) != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  // If nbdupload has died before that, no signal will come.
  if (std::to_string(getppid()) != argv[2]) _exit(127);
  limit_memory(argv[kProgram], strtoull(argv[3], nullptr, 10));
  execvp(argv[kProgram], argv + kProgram);
  fprintf(stderr, "%s can't be run: %s\n", argv[kProgram], strerror(errno));
  _exit(127);
}

}  // namespace nbdupload
