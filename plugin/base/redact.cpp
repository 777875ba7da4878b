// SPDX-License-Identifier: BSD-3-Clause
//
// The list of secrets and their replacement. The list is a heap object that
// is never destroyed: texts may be redacted until the process ends.

#include "base/redact.h"

#include <algorithm>
#include <vector>

namespace upload {

namespace {

std::vector<std::string>& secrets() {
  static auto* const list = new std::vector<std::string>;
  return *list;
}

}  // namespace

void register_secret(std::string_view secret, size_t shortest) {
  if (secret.empty() || secret.size() < shortest) return;
  std::vector<std::string>& list = secrets();
  if (std::find(list.begin(), list.end(), secret) != list.end()) return;
  // Longer ones first, so that one that contains another goes as a whole.
  const auto place = std::find_if(list.begin(), list.end(), [&](const std::string& other) {
    return other.size() < secret.size();
  });
  list.emplace(place, secret);
}

std::string redacted(std::string text) {
  for (const std::string& secret : secrets())
    for (size_t at = text.find(secret); at != text.npos; at = text.find(secret, at + 3))
      text.replace(at, secret.size(), "...");
  return text;
}

}  // namespace upload
