// SPDX-License-Identifier: BSD-3-Clause
//
// The signature of Azure's storage services by which a request shows that its sender has the
// account's key. Each request has one of its own, of its time, its fields and its length.
// Source:
// https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key

#pragma once

#include <string>

#include "base/clock.h"
#include "http/credentials.h"

namespace upload::target {

// `key` as the portal shows it, in Base64. The clock outlives the credential. Null: it is no key.
[[nodiscard]] http::CredentialPtr make_shared_key(const std::string& account,
                                                  const std::string& key, const Clock& clock);

// What is signed of a request, which has its date. For tests.
[[nodiscard]] std::string string_to_sign(const std::string& account,
                                         const http::Request& request);

}  // namespace upload::target
