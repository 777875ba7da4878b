// SPDX-License-Identifier: BSD-3-Clause
//
// printable: text as one line that a terminal only shows.
//
// What a server, a certificate, a file's name or a parameter says may have newlines in
// it, which would make lines that nobody here has written, escape sequences, which make
// a terminal do things, and marks that turn the direction of the text around them.

#pragma once

#include <string>
#include <string_view>

namespace upload {

// `text` on one line: tabs and ends of lines become blanks; each other control character
// (C0, DEL, C1), each mark of direction or of nothing visible, and each byte that is not
// UTF-8 becomes '?'. Blanks at the end go. Pure; any thread.
// Source: Unicode Standard Annex #9 (bidirectional formatting), RFC 3629 (UTF-8).
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace upload
