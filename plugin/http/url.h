// SPDX-License-Identifier: BSD-3-Clause
//
// Url: an upload URL taken apart. The ticket in it is a credential, so only
// redacted() may be shown. A value.

#pragma once

#include <string>

#include "base/status.h"

namespace upload::http {

struct Url {
  std::string scheme;  // "https" or "http"
  std::string host;    // IPv6 addresses in brackets
  std::string port;    // always given, if need be the scheme's default
  std::string path;    // begins with a slash; still percent-encoded
  std::string query;   // without the question mark; may be empty

  // scheme://host:port
  [[nodiscard]] std::string origin() const;
  // scheme://host:port, and whether the path begins with /images/. Any other part may
  // be the ticket, which is not the last one in /images/TICKET/extents.
  [[nodiscard]] std::string redacted() const;
  // The path with `suffix` after it, the query and, if any, `parameter`.
  [[nodiscard]] std::string target(const std::string& suffix = "",
                                   const std::string& parameter = "") const;
};

// Takes an absolute http or https URL with a host and a path. Refuses
// credentials and fragments. The failure's text shows none of the URL but its
// scheme, since the rest may be secret.
[[nodiscard]] Result<Url> parse_url(const std::string& text);

}  // namespace upload::http
