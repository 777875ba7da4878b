// SPDX-License-Identifier: BSD-3-Clause
//
// CurlConnection: a Connection made of one libcurl easy handle.

#pragma once

#include <memory>

#include "http/addresses.h"
#include "http/connection.h"
#include "http/origin.h"

namespace upload::http {

// Call once, before any thread is started (curl_global_init(3)).
[[nodiscard]] Status global_init();
void global_cleanup();

// "libcurl/7.88.1 OpenSSL/3.0.15 ..." for --dump-plugin.
[[nodiscard]] std::string library_version();

// An unopened connection to `origin`, which is shared and constant; `addresses` are those
// of its host. If libcurl lacks something, requests on it fail with kInvalid.
[[nodiscard]] std::unique_ptr<Connection> make_curl_connection(
    std::shared_ptr<const Origin> origin, std::shared_ptr<Addresses> addresses, ConnectionId id,
    ConnectionEvents events);

}  // namespace upload::http
