// SPDX-License-Identifier: BSD-3-Clause
//
// Who may send a request to Azure: an account's key, a shared access signature, a bearer token.
// Source: learn.microsoft.com/rest/api/storageservices/authorize-requests-to-azure-storage.

#pragma once

#include <optional>

#include "http_reader.h"
#include "http_syntax.h"
#include "server_state.h"

namespace upload::testserver {

/// Why the request is refused; nothing when it is allowed. `target` is the request's;
/// `permissions` are letters of a shared access signature's sp, any of which is enough. Any
/// thread.
[[nodiscard]] std::optional<Refusal> check_azure_authorization(const ServerState& state,
                                                               const HttpReader& http,
                                                               const Target& target,
                                                               std::string_view permissions);

/// What is signed with an account's key.
[[nodiscard]] std::string string_to_sign(const HttpReader& http, const Target& target,
                                         const std::string& account);

}  // namespace upload::testserver
