// SPDX-License-Identifier: BSD-3-Clause
//
// Looks for a token in the file, which is read each time: what is written there counts from the
// next request on.
//
// Threads: no state. Errors: a file that can't be read has no tokens.

#include "token_file.h"

#include <chrono>
#include <fstream>

namespace upload::testserver {

bool is_valid_token(const std::string& token_file, std::string_view authorization) {
  std::ifstream file(token_file);
  std::string token;
  for (double expires = 0; file >> token >> expires;) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    if (authorization == "Bearer " + token) {
      return std::chrono::duration<double>(now).count() < expires;
    }
  }
  return false;
}

}  // namespace upload::testserver
