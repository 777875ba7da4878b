// SPDX-License-Identifier: BSD-3-Clause
//
// The commands of a dry run, as a shell would take them. Pure functions.

#pragma once

#include <string>
#include <vector>

namespace nbdupload {

// A word as bash would take it, all of it ASCII that can be printed.
[[nodiscard]] std::string quoted_word(const std::string& word);
[[nodiscard]] std::string quoted_words(const std::vector<std::string>& words);

}  // namespace nbdupload
