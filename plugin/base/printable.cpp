// SPDX-License-Identifier: BSD-3-Clause
//
// One character after another is decoded and either kept, byte by byte, or replaced.

#include "base/printable.h"

#include "base/utf8.h"

namespace upload {

namespace {

bool is_blank(char32_t c) { return c == '\t' || c == '\n' || c == '\r'; }

// Shows nothing, or changes how its neighbours are shown.
bool is_hidden(char32_t c) {
  return c < ' ' || (c >= 0x7f && c <= 0x9f) ||  // C0, DEL, C1
         c == 0xad ||                            // soft hyphen
         c == 0x34f || c == 0x180e ||            // joiner; separator of vowels
         c == 0x61c ||                           // Arabic letter mark
         (c >= 0x200b && c <= 0x200f) ||         // of no width; marks of direction
         (c >= 0x2028 && c <= 0x202e) ||         // separators of lines; embeddings
         (c >= 0x2060 && c <= 0x206f) ||         // joiners; isolates
         c == 0xfeff ||                          // byte order mark
         (c >= 0xfff0 && c <= 0xfffb) ||         // annotations
         (c >= 0xe0000 && c <= 0xe0fff);         // tags
}

}  // namespace

std::string printable(std::string_view text) {
  std::string line;
  line.reserve(text.size());
  while (!text.empty()) {
    const Utf8 next = decode_utf8(text);
    if (next.length == 0 || is_hidden(next.character))
      line += next.length != 0 && is_blank(next.character) ? ' ' : '?';
    else
      line += text.substr(0, next.length);
    text.remove_prefix(next.length == 0 ? 1 : next.length);
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

}  // namespace upload
