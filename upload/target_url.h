// SPDX-License-Identifier: BSD-3-Clause
//
// Upload URLs: what of one may be shown, and whether it is one. Pure functions.

#pragma once

#include <string>
#include <string_view>

namespace nbdupload {

// What of a URL may be shown: the server, and that it is an image's. Any other part may be
// the ticket or a credential.
[[nodiscard]] std::string redacted_url(std::string_view url);

// Does it begin with http:// or https://, in any case?
[[nodiscard]] bool is_http_url(std::string_view url);

// Is it SCHEME://..., of any scheme?
[[nodiscard]] bool has_scheme(std::string_view text);

// Has it credentials in it, as SCHEME://USER:PASSWORD@HOST has?
[[nodiscard]] bool has_credentials(std::string_view text);

}  // namespace nbdupload
