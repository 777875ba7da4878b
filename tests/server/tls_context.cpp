// SPDX-License-Identifier: BSD-3-Clause
//
// Sets up OpenSSL for accepting connections.
//
// Read-ahead with a large buffer lets OpenSSL take several records out of the kernel at
// once, otherwise each record costs two system calls. The price is that bytes may wait
// inside of OpenSSL, which Channel asks for before it polls the socket.
//
// A client that closes without close_notify is an end of the stream like any other;
// that libraries before OpenSSL 3 see it so by themselves explains the #ifdef.
//
// Threads: made by one, then shared and never changed. Errors: one line with the file's
// name and OpenSSL's reason. No session cache tuning, no ALPN: HTTP/1.1 only.

#include "tls_context.h"

#include <openssl/err.h>

#include <stdexcept>

namespace upload::testserver {

namespace {

constexpr std::size_t kReadAheadBytes = 128 * 1024;

[[noreturn]] void fail(const std::string& what) {
  char reason[256] = "unknown error";
  if (const unsigned long code = ERR_get_error()) {
    ERR_error_string_n(code, reason, sizeof reason);
  }
  ERR_clear_error();
  throw std::runtime_error(what + ": " + reason);
}

}  // namespace

TlsContext make_tls_context(const std::string& cert_file, const std::string& key_file,
                            const std::string& client_ca_file) {
  ERR_clear_error();
  TlsContext context(SSL_CTX_new(TLS_server_method()));
  if (!context) {
    fail("TLS cannot be set up");
  }
  SSL_CTX* const ctx = context.get();
  SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF
  SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
#endif
  SSL_CTX_set_read_ahead(ctx, 1);
  SSL_CTX_set_default_read_buffer_len(ctx, kReadAheadBytes);
  if (SSL_CTX_use_certificate_chain_file(ctx, cert_file.c_str()) != 1) {
    fail("certificate " + cert_file);
  }
  if (SSL_CTX_use_PrivateKey_file(ctx, key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(ctx) != 1) {
    fail("private key " + key_file);
  }
  if (!client_ca_file.empty()) {
    if (SSL_CTX_load_verify_locations(ctx, client_ca_file.c_str(), nullptr) != 1) {
      fail("client CA " + client_ca_file);
    }
    SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(client_ca_file.c_str()));
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    // Sessions must not be resumed under another idea of who the client is.
    static constexpr unsigned char kSessionContext[] = "upload-server";
    SSL_CTX_set_session_id_context(ctx, kSessionContext, sizeof kSessionContext - 1);
  }
  return context;
}

}  // namespace upload::testserver
