// SPDX-License-Identifier: BSD-3-Clause
//
// Values are the plugin's business; here is only what nbdupload itself has to know of some.

#include "parameters.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/parse.h"
#include "base/redact.h"
#include "secret.h"
#include "target_url.h"

namespace nbdupload {

namespace {

constexpr uint64_t kReplay = uint64_t{256} << 20;

bool is_secret(std::string_view key) {
  constexpr std::array<std::string_view, 6> kSecrets = {"url",           "password", "token",
                                                        "client-secret", "header",   "proxy"};
  return std::find(kSecrets.begin(), kSecrets.end(), key) != kSecrets.end();
}

// KEY of KEY=VALUE; empty: it is no such thing.
std::string_view key_of(std::string_view argument) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  constexpr std::string_view kKey =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  const size_t end = argument.find('=');
  if (end == std::string_view::npos || end == 0) return {};
  const std::string_view key = argument.substr(0, end);
  const bool good = kLetters.find(key[0]) != std::string_view::npos &&
                    key.find_first_not_of(kKey) == std::string_view::npos;
  return good ? key : std::string_view();
}

}  // namespace

Outcome Parameters::add(EventLoop& loop, const std::string& argument) {
  const std::string key(key_of(argument));
  if (key.empty())
    return Outcome::usage("after the URL, KEY=VALUE is expected, not '" + redacted_url(argument) +
                          "'");
  if (key == "url") return Outcome::usage("url= was given: the second argument is the URL");
  if (argument == "spool-flush=local")
    return Outcome::usage(
        "spool-flush=local: nbdupload ends with success when the server has everything");
  return add_pair(loop, key, argument.substr(key.size() + 1));
}

Outcome Parameters::add_pair(EventLoop& loop, const std::string& key, const std::string& value) {
  const bool elsewhere = value.starts_with("+") || value.starts_with("-");
  if (is_secret(key)) {
    Or<std::string> secret = read_secret(loop, key, value);
    if (!secret.ok()) return secret.failure();
    upload::register_credential(secret.value());
    list_.push_back({key, "", secret.value(), key + "=" + (elsewhere ? value : "...")});
  } else {
    list_.push_back(
        {key, value, std::nullopt, key + "=" + (has_credentials(value) ? "..." : value)});
  }
  return {};
}

bool Parameters::claims() const {
  return std::any_of(list_.begin(), list_.end(),
                     [](const Parameter& parameter) { return parameter.key == "claim"; });
}

std::string Parameters::spool() const {
  std::string directory;
  for (const Parameter& parameter : list_)
    if (parameter.key == "spool") directory = parameter.value;
  return directory;
}

// The last of them, in bytes; 0: none, or one that the plugin will refuse.
uint64_t Parameters::size_of(const std::string& key) const {
  uint64_t size = 0;
  for (const Parameter& parameter : list_)
    if (parameter.key == key) size = upload::parse_size(parameter.value).value_or(0);
  return size;
}

uint64_t Parameters::default_replay() const {
  const uint64_t spool = size_of("spool-size");
  const uint64_t replay = spool == 0 ? kReplay : std::min(kReplay, spool);
  return std::max(replay, size_of("max-request"));
}

uint64_t Parameters::replay() const { return std::max(size_of("replay"), default_replay()); }

bool Parameters::write_back() const {
  return std::none_of(list_.begin(), list_.end(), [](const Parameter& parameter) {
    return (parameter.key == "replay" && parameter.value == "0") || parameter.key == "write-back";
  });
}

}  // namespace nbdupload
