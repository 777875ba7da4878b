// SPDX-License-Identifier: BSD-3-Clause
//
// TokenScript: a login by a command of the user's. It prints the token on its first line, and
// may print the token's life time, in seconds, on the second.
//
// The command may hang, print nothing or without an end: it is ended, with all that it has
// started in its process group, after the time-out, or when it has printed too much.

#pragma once

#include <sys/types.h>

#include <string>

#include "base/mutex.h"
#include "login/login.h"

namespace upload::login {

class TokenScript final : public Login {
 public:
  // `command` is run by /bin/sh in the directory that is now the working directory.
  TokenScript(std::string command, Duration timeout);

  [[nodiscard]] Result<Token> log_in() override EXCLUDES(mutex_);
  void stop() override EXCLUDES(mutex_);

 private:
  bool begin(pid_t process) EXCLUDES(mutex_);
  bool end() EXCLUDES(mutex_);

  const std::string command_;
  const Duration timeout_;
  const std::string directory_;  // empty: it is not known

  Mutex mutex_;
  pid_t process_ GUARDED_BY(mutex_) = 0;  // of a login under way; 0: there is none
  bool stopped_ GUARDED_BY(mutex_) = false;
};

// What the command has printed. Pure.
[[nodiscard]] Result<Token> read_token_lines(const std::string& printed);

}  // namespace upload::login
