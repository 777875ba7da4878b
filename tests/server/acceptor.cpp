// SPDX-License-Identifier: BSD-3-Clause
//
// Accepting connections.
//
// One thread polls the listeners together with an eventfd that tells it to look whether
// it should pause or stop. Faults on connect are looked up here, so that they are counted
// in the order in which connections are accepted; all of them but "refuse" take place on
// the connection's own thread, so one that is stalled does not hold up the others. (The
// real daemon makes its TLS handshakes one at a time, here they are made in parallel.)
//
// Invariant: accepting happens under mutex_ and only when neither paused nor stopping, so
// pause() and stop() need no further handshake with the thread.
//
// Errors: a connection that cannot be accepted is forgotten; with no descriptors left
// the thread waits a little before it tries again.

#include "acceptor.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "listen.h"

namespace upload::testserver {

namespace {

constexpr int kRetryMs = 20;

/// Whether nothing but a close is to happen.
bool refuses(const FiredFault& fault) {
  if (!fault || fault->delay.count() > 0) {
    return false;
  }
  switch (fault->action) {
    case Action::delay:
    case Action::stall:
    case Action::no_handshake:
    case Action::reset:
    case Action::garbage: return false;
    default: return true;
  }
}

}  // namespace

void Acceptor::start(SSL_CTX* tls) {
  tls_ = tls;
  tcp_ =
      listen_tcp(state_.options.listen_address, port_ != 0 ? port_.load() : state_.options.port);
  port_ = port_of(tcp_);
  if (!state_.options.unix_socket.empty()) {
    unix_ = listen_unix(state_.options.unix_socket);
  }
  wake_fd_ = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  {
    const std::lock_guard lock(mutex_);
    stopping_ = false;
  }
  thread_ = start_thread([this] { run(); });
}

void Acceptor::stop() {
  if (!thread_.joinable()) {
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake();
  }
  thread_.join();
  tcp_.reset();
  unix_.reset();
  unlink_unix(state_.options.unix_socket);
}

void Acceptor::wake() { ::eventfd_write(wake_fd_.get(), 1); }

void Acceptor::pause() {
  const std::lock_guard lock(mutex_);
  paused_ = true;
  wake();
}

void Acceptor::resume() {
  const std::lock_guard lock(mutex_);
  paused_ = false;
  wake();
}

void Acceptor::run() {
  for (;;) {
    bool paused = false;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) {
        return;
      }
      paused = paused_;
    }
    // poll() ignores negative descriptors.
    pollfd events[] = {{wake_fd_.get(), POLLIN, 0},
                       {paused ? -1 : tcp_.get(), POLLIN, 0},
                       {paused ? -1 : unix_.get(), POLLIN, 0}};
    if (::poll(events, 3, -1) <= 0) {
      continue;
    }
    if (events[0].revents != 0) {
      eventfd_t ignored = 0;
      ::eventfd_read(wake_fd_.get(), &ignored);
      continue;
    }
    if (events[1].revents != 0) {
      accept_from(tcp_, tls_);
    }
    if (events[2].revents != 0) {
      accept_from(unix_, nullptr);
    }
  }
}

void Acceptor::accept_from(const FileDescriptor& listener, SSL_CTX* tls) {
  const std::lock_guard lock(mutex_);
  if (paused_ || stopping_) {
    return;
  }
  FileDescriptor fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd.valid()) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      ::poll(nullptr, 0, kRetryMs);
    }
    return;
  }
  const int on = 1;
  // Fails for unix sockets, which do not need it.
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  FiredFault fault = state_.faults.match(Op::connect, "");
  state_.board.update([&](Counters& counters) {
    ++counters.connections_accepted;
    counters.faults_fired += fault ? 1 : 0;
  });
  if (!refuses(fault)) {
    registry_.serve(std::move(fd), tls, std::move(fault));
  }
}

}  // namespace upload::testserver
