// SPDX-License-Identifier: BSD-3-Clause
//
// One accepted socket, plain or TLS, with what the server needs beyond reading and
// writing: waiting with a bound, noticing that the peer has gone, being woken or ended
// by another thread, and the different ways to close.

#pragma once

#include <openssl/ssl.h>
#include <sys/uio.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <system_error>

#include "file_descriptor.h"

namespace upload::testserver {

enum class CloseMode {
  silent,  // FIN, no TLS close_notify
  notify,  // close_notify, then FIN
  reset,   // RST
};

/// Belongs to one thread, its owner, except for the functions marked "any thread".
class Channel {
 public:
  /// Takes the blocking, connected socket `fd`.
  explicit Channel(FileDescriptor fd);
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// The server's side of a TLS handshake; false if it failed. `context` is only used
  /// during the call.
  [[nodiscard]] bool handshake(SSL_CTX* context);

  /// At least one byte; 0 at the end of the stream. ETIMEDOUT after the time-out.
  [[nodiscard]] std::size_t read_some(std::span<char> out, std::error_code& ec);
  /// At least one byte of the (not all empty) buffers.
  [[nodiscard]] std::size_t write_some(std::span<const iovec> buffers, std::error_code& ec);

  /// Bound of a single read or write; 0: none.
  void set_timeout(std::chrono::milliseconds timeout);

  enum class Wait { readable, timed_out, woken };
  /// For the next request; 0: no bound. An end of the stream is readable too.
  [[nodiscard]] Wait wait_readable(std::chrono::milliseconds timeout);

  /// Sleeps; false at once when the peer has gone or shut_down() was called.
  [[nodiscard]] bool sleep_for(std::chrono::milliseconds duration);
  /// Sleeps until `done`, which is asked again after each wake(); false as above.
  [[nodiscard]] bool sleep_until(const std::function<bool()>& done);

  void close(CloseMode mode);

  // Any thread, at any time.
  void wake();
  /// Ends whatever the owner waits for, silently and without closing. Nothing can be
  /// read or written any more.
  void shut_down();
  /// Whether the peer closed its side, the connection failed, or it is closed here.
  [[nodiscard]] bool gone() const;

 private:
  struct FreeSsl {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  void clear_wake();
  [[nodiscard]] std::error_code tls_error(int result) const;
  [[nodiscard]] std::size_t write_tls(std::span<const iovec> buffers, std::error_code& ec);

  const FileDescriptor wake_fd_;  // eventfd
  std::atomic<bool> shut_down_{false};
  std::chrono::milliseconds timeout_{0};
  std::unique_ptr<SSL, FreeSsl> ssl_;

  mutable std::mutex mutex_;  // protects fd_ from being closed while others use it; the
                              // owner, who alone closes it, reads it without
  FileDescriptor fd_;
};

}  // namespace upload::testserver
