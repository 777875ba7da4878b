// SPDX-License-Identifier: BSD-3-Clause
//
// The URL is not taken apart as RFC 3986 has it, but so that nothing of one that is not
// well-formed is shown either.

#include "target_url.h"

#include <strings.h>

namespace nbdupload {

namespace {

constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr std::string_view kScheme =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+.-";
constexpr std::string_view kHost =
    "][ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:%-";

bool consists_of(std::string_view text, std::string_view characters) {
  return text.find_first_not_of(characters) == std::string_view::npos;
}

bool begins_with(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() &&
         strncasecmp(text.data(), prefix.data(), prefix.size()) == 0;
}

}  // namespace

bool has_scheme(std::string_view text) {
  const size_t end = text.find("://");
  return end != std::string_view::npos && end > 0 && consists_of(text.substr(0, 1), kLetters) &&
         consists_of(text.substr(0, end), kScheme);
}

bool is_http_url(std::string_view url) {
  return begins_with(url, "http://") || begins_with(url, "https://");
}

bool has_credentials(std::string_view text) {
  const size_t scheme = text.find("://");
  return scheme != std::string_view::npos && text.find('@', scheme) != std::string_view::npos;
}

std::string redacted_url(std::string_view url) {
  // Without a scheme, or with credentials, there is no telling what is what.
  if (!has_scheme(url)) return "...";
  const size_t end = url.find("://") + 3;
  const std::string scheme(url.substr(0, end));
  std::string_view rest = url.substr(end);
  const std::string_view host = rest.substr(0, rest.find_first_of("/?#"));
  if (rest.find('@') != std::string_view::npos || host.empty() || !consists_of(host, kHost))
    return scheme + "...";
  rest.remove_prefix(host.size());
  const char* shown = rest.starts_with("/images/") ? "/images/..." : rest.empty() ? "" : "/...";
  return scheme + std::string(host) + shown;
}

}  // namespace nbdupload
