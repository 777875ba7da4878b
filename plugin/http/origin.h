// SPDX-License-Identifier: BSD-3-Clause
//
// Origin: what a connection is made to, and as whom. Constant once made; it
// holds secrets, so it is never printed whole.

#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "http/url.h"

namespace upload::http {

class Credentials;

struct Origin {
  // Scheme, host and port are used; path and query belong to a volume.
  Url url;
  // A unix socket in place of TCP and TLS; '@' first: an abstract one
  // (unix(7)). Empty: none.
  std::string unix_socket;

  // TLS, in PEM. Empty: the system's CAs, no client certificate.
  std::string ca_pem;
  std::string cert_pem;
  std::string key_pem;
  bool insecure = false;

  // What a connection's requests show (http/authorized_connection.h); the same object may
  // serve many. Empty: nothing.
  std::function<std::shared_ptr<Credentials>()> make_credentials;
  // "Name: value" lines sent with every request.
  std::vector<std::string> headers;

  // Empty: what the environment says (curl(1), "ENVIRONMENT").
  std::string proxy;

  Duration connect_timeout = std::chrono::seconds(10);
  // How long a request may make no progress, see CurlConnection.
  Duration timeout = std::chrono::seconds(60);

  // For error texts: origin or socket.
  [[nodiscard]] std::string name() const {
    return unix_socket.empty() ? url.origin() : "unix socket " + unix_socket;
  }
};

}  // namespace upload::http
