// SPDX-License-Identifier: BSD-3-Clause
//
// What is not plain is quoted: with '...' if it can be printed, else with $'...'.

#include "dry_run.h"

#include <algorithm>
#include <cstdio>

namespace nbdupload {

namespace {

constexpr char kPlain[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:=,+@%-";

bool is_printable(char c) { return c >= ' ' && c <= '~'; }

std::string escaped(const std::string& word) {
  std::string text = "$'";
  for (const char c : word) {
    char octal[8];
    snprintf(octal, sizeof octal, "\\%03o", static_cast<unsigned>(static_cast<unsigned char>(c)));
    if (!is_printable(c))
      text += octal;
    else if (c == '\'' || c == '\\')
      text += std::string("\\") + c;
    else
      text += c;
  }
  return text + "'";
}

}  // namespace

std::string quoted_word(const std::string& word) {
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  const bool simple =
      std::all_of(word.begin(), word.end(), is_printable) && word.find('\'') == std::string::npos;
  return simple ? "'" + word + "'" : escaped(word);
}

std::string quoted_words(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + quoted_word(word);
  return line;
}

}  // namespace nbdupload
