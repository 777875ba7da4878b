// SPDX-License-Identifier: BSD-3-Clause
//
// Percent-encoding, as in URLs and forms (RFC 3986, section 2.1). Pure functions.

#pragma once

#include <string>
#include <string_view>

namespace upload {

// Every byte but the unreserved characters (section 2.3) is encoded.
[[nodiscard]] std::string percent_encoded(std::string_view text);
// What is not a percent sign with two hexadecimal digits stays as it is.
[[nodiscard]] std::string percent_decoded(std::string_view text);

}  // namespace upload
