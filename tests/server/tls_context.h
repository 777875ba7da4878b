// SPDX-License-Identifier: BSD-3-Clause
//
// The server's TLS settings.

#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

namespace upload::testserver {

struct FreeSslContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

/// May be used by several threads at once.
using TlsContext = std::unique_ptr<SSL_CTX, FreeSslContext>;

/// TLS 1.2 and 1.3. All arguments are paths of PEM files; with `client_ca_file` clients
/// need a certificate signed by it. Throws std::runtime_error.
[[nodiscard]] TlsContext make_tls_context(const std::string& cert_file,
                                          const std::string& key_file,
                                          const std::string& client_ca_file);

}  // namespace upload::testserver
