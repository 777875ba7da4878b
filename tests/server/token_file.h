// SPDX-License-Identifier: BSD-3-Clause
//
// The bearer tokens that a server takes, in a file that others write.

#pragma once

#include <string>
#include <string_view>

namespace upload::testserver {

/// Whether the Authorization field's value is "Bearer" with a token of the file (see
/// ServerOptions::token_file) that is still good. Any thread.
[[nodiscard]] bool is_valid_token(const std::string& token_file, std::string_view authorization);

}  // namespace upload::testserver
