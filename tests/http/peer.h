// SPDX-License-Identifier: BSD-3-Clause
//
// Peer: whoever is at the other end of a connection. It listens on loopback, with TLS or
// without, reads requests without looking at them, and sends exactly the bytes that a test
// tells it to, be they HTTP or not.
//
// Thread safety: the script runs on a thread of the peer's, for one connection at a time.
// Errors: std::runtime_error from the constructor.

#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "server/file_descriptor.h"

namespace upload::testing {

class Peer {
 public:
  // One connection.
  class Talk {
   public:
    Talk(int fd, SSL* ssl) : fd_(fd), ssl_(ssl) {}

    // The header of the next request, after its body was read as well; empty: the other
    // side has closed.
    std::string request();
    // False: it could not be sent.
    bool send(std::string_view bytes);
    // Until it can't, or so many bytes were sent. Returns how many.
    uint64_t send_again_and_again(std::string_view bytes, uint64_t most);
    // Waits until what was sent is in the other side's socket.
    void await_delivery();
    // Waits for the end of the connection.
    void await_close();
    [[nodiscard]] SSL* ssl() const { return ssl_; }  // null: plain

   private:
    long receive(char* buffer, size_t size);
    int fd_;
    SSL* ssl_;
    std::string read_;  // and not returned
  };
  using Script = std::function<void(Talk&)>;

  struct Tls {
    int most = 0;  // the version, such as TLS1_2_VERSION; 0: any
    const char* ciphers = nullptr;
    // Connections after so many meet a certificate of another authority.
    unsigned honest = UINT_MAX;
  };

  explicit Peer(Script script, const Tls* tls = nullptr);
  // Ends a script that waits.
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }
  // The certificate, in PEM, of the authority that the first connections meet.
  [[nodiscard]] const std::string& authority() const { return authority_; }
  [[nodiscard]] unsigned connections() const { return connections_; }

 private:
  struct SslContextDeleter {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };

  using SslContext = std::unique_ptr<SSL_CTX, SslContextDeleter>;

  // Returns the authority's certificate.
  static std::string make_tls(const Tls& tls, SslContext& context);
  void run();
  void serve(int fd);

  const Script script_;
  SslContext tls_;
  SslContext rogue_tls_;
  unsigned honest_ = UINT_MAX;
  std::string authority_;
  testserver::FileDescriptor listener_;
  uint16_t port_ = 0;
  std::mutex mutex_;
  // The connection that is served. Guarded by mutex_, with its being open.
  testserver::FileDescriptor current_;
  std::atomic<bool> stop_ = false;
  std::atomic<unsigned> connections_ = 0;
  std::thread thread_;
};

}  // namespace upload::testing
