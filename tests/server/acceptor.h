// SPDX-License-Identifier: BSD-3-Clause
//
// Listens and accepts, on a thread of its own.

#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>

#include "file_descriptor.h"
#include "registry.h"
#include "server_state.h"

namespace upload::testserver {

/// start() and stop() exclude each other; the rest is thread safe.
class Acceptor {
 public:
  Acceptor(ServerState& state, Registry& registry) : state_(state), registry_(registry) {}
  ~Acceptor() { stop(); }
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  /// Listens where the options say, TCP on the port of the last time if there was one.
  /// `tls` is null for plain HTTP on TCP. Throws std::runtime_error.
  void start(SSL_CTX* tls);
  /// When it returns nobody listens and no connection will be accepted.
  void stop();
  [[nodiscard]] bool running() const { return thread_.joinable(); }

  /// After pause() returned nothing is accepted until resume().
  void pause();
  void resume();

  [[nodiscard]] std::uint16_t port() const { return port_; }

 private:
  void run();
  void accept_from(const FileDescriptor& listener, SSL_CTX* tls);
  void wake();

  ServerState& state_;
  Registry& registry_;
  std::atomic<std::uint16_t> port_{0};

  // Set by start(), used by the thread until stop() has joined it.
  SSL_CTX* tls_ = nullptr;
  FileDescriptor tcp_;
  FileDescriptor unix_;
  FileDescriptor wake_fd_;
  std::thread thread_;

  std::mutex mutex_;  // held while accepting; protects all below
  bool paused_ = false;
  bool stopping_ = false;
};

}  // namespace upload::testserver
