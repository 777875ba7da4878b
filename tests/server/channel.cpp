// SPDX-License-Identifier: BSD-3-Clause
//
// Sockets and TLS.
//
// The socket stays blocking and OpenSSL works on it directly: one copy less than a pair
// of memory BIOs, and no event loop. Everything that has to end early is ended by
// shutdown(2) from another thread, which makes every blocked call on the socket return;
// waiting for something else than the socket is done in poll(2) together with an
// eventfd. That is also how a peer that goes away in the middle of a sleep is noticed:
// its FIN (POLLRDHUP) or RST. A peer that half-closes its connection and still wants an
// answer counts as gone; no HTTP client of interest does that.
//
// Invariant: fd_ is valid until close(), and only the owner closes.
//
// Threads: see the header. Signals: the owner's thread has to block SIGPIPE, since
// OpenSSL writes with write(2). Errors: errno, ETIMEDOUT, or EPROTO for what TLS does not
// like.

#include "channel.h"

#include <openssl/err.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace upload::testserver {

namespace {

using Clock = std::chrono::steady_clock;

constexpr short kGoneEvents = POLLRDHUP | POLLHUP | POLLERR | POLLNVAL;
constexpr std::size_t kTlsRecordBytes = 16 * 1024;

std::error_code errno_code(int err) {
  // A time-out of SO_RCVTIMEO or SO_SNDTIMEO looks like a non-blocking socket.
  const bool timed_out = err == EAGAIN || err == EWOULDBLOCK;
  return {timed_out ? ETIMEDOUT : err, std::generic_category()};
}

/// What is left until `end` for poll(), rounded up.
int left_ms(Clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
  return static_cast<int>(
      std::clamp<std::int64_t>(left.count(), 0, std::numeric_limits<int>::max()));
}

/// OpenSSL wants its error queue to be empty before each call. Clearing an empty one is
/// not free: it was a tenth of the time of an upload.
void forget_tls_errors() {
  if (ERR_peek_error() != 0) {
    ERR_clear_error();
  }
}

}  // namespace

Channel::Channel(FileDescriptor fd)
    : wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), fd_(std::move(fd)) {}

bool Channel::handshake(SSL_CTX* context) {
  forget_tls_errors();
  ssl_.reset(SSL_new(context));
  return ssl_ && SSL_set_fd(ssl_.get(), fd_.get()) == 1 && SSL_accept(ssl_.get()) == 1;
}

std::error_code Channel::tls_error(int result) const {
  const int saved_errno = errno;
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_ZERO_RETURN: return {};
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return errno_code(ETIMEDOUT);
    case SSL_ERROR_SYSCALL: return saved_errno != 0 ? errno_code(saved_errno) : std::error_code();
    default: return errno_code(EPROTO);
  }
}

std::size_t Channel::read_some(std::span<char> out, std::error_code& ec) {
  ec = {};
  // Linux goes on to hand out what a peer sends after SHUT_RD.
  if (shut_down_) {
    return 0;
  }
  if (ssl_) {
    forget_tls_errors();
    errno = 0;
    std::size_t n = 0;
    const int result = SSL_read_ex(ssl_.get(), out.data(), out.size(), &n);
    if (result != 1) {
      ec = tls_error(result);
      return 0;
    }
    return n;
  }
  for (;;) {
    const ssize_t n = ::recv(fd_.get(), out.data(), out.size(), 0);
    if (n >= 0) {
      return static_cast<std::size_t>(n);
    }
    if (errno != EINTR) {
      ec = errno_code(errno);
      return 0;
    }
  }
}

std::size_t Channel::write_some(std::span<const iovec> buffers, std::error_code& ec) {
  ec = {};
  if (ssl_) {
    return write_tls(buffers, ec);
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(buffers.data());  // sendmsg() only reads them
  message.msg_iovlen = buffers.size();
  for (;;) {
    const ssize_t n = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
    if (n >= 0) {
      return static_cast<std::size_t>(n);
    }
    if (errno != EINTR) {
      ec = errno_code(errno);
      return 0;
    }
  }
}

std::size_t Channel::write_tls(std::span<const iovec> buffers, std::error_code& ec) {
  while (!buffers.empty() && buffers.front().iov_len == 0) {
    buffers = buffers.subspan(1);
  }
  if (buffers.empty()) {
    return 0;
  }
  // A header and what follows it go into one record; large buffers are not copied.
  std::array<char, kTlsRecordBytes> record;
  const void* data = buffers.front().iov_base;
  std::size_t size = buffers.front().iov_len;
  if (buffers.size() > 1 && size < record.size()) {
    size = 0;
    for (const iovec& buffer : buffers) {
      const std::size_t n = std::min(buffer.iov_len, record.size() - size);
      std::memcpy(record.data() + size, buffer.iov_base, n);
      size += n;
    }
    data = record.data();
  }
  forget_tls_errors();
  errno = 0;
  std::size_t written = 0;
  const int result = SSL_write_ex(ssl_.get(), data, size, &written);
  if (result != 1) {
    ec = tls_error(result);
    if (!ec) {
      ec = errno_code(EPIPE);
    }
    return 0;
  }
  return written;
}

void Channel::set_timeout(std::chrono::milliseconds timeout) {
  if (timeout == timeout_) {
    return;
  }
  timeout_ = timeout;
  timeval value{};
  value.tv_sec = timeout.count() / 1000;
  value.tv_usec = timeout.count() % 1000 * 1000;
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value);
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &value, sizeof value);
}

Channel::Wait Channel::wait_readable(std::chrono::milliseconds timeout) {
  if (ssl_ && SSL_has_pending(ssl_.get()) == 1) {
    return Wait::readable;
  }
  const bool bounded = timeout.count() > 0;
  const auto end = Clock::now() + timeout;
  for (;;) {
    pollfd events[] = {{fd_.get(), POLLIN | POLLRDHUP, 0}, {wake_fd_.get(), POLLIN, 0}};
    const int n = ::poll(events, 2, bounded ? left_ms(end) : -1);
    if (n > 0 && events[0].revents != 0) {
      return Wait::readable;
    }
    if (n > 0) {
      clear_wake();
      return Wait::woken;
    }
    if (n == 0 && Clock::now() >= end) {
      return Wait::timed_out;
    }
  }
}

bool Channel::sleep_for(std::chrono::milliseconds duration) {
  const auto end = Clock::now() + duration;
  while (duration.count() > 0) {
    pollfd event = {fd_.get(), POLLRDHUP, 0};
    const int n = ::poll(&event, 1, left_ms(end));
    if (n > 0 && (event.revents & kGoneEvents) != 0) {
      return false;
    }
    if (n == 0 && Clock::now() >= end) {
      break;
    }
  }
  return true;
}

bool Channel::sleep_until(const std::function<bool()>& done) {
  while (!done()) {
    pollfd events[] = {{fd_.get(), POLLRDHUP, 0}, {wake_fd_.get(), POLLIN, 0}};
    if (::poll(events, 2, -1) <= 0) {
      continue;
    }
    if ((events[0].revents & kGoneEvents) != 0) {
      return false;
    }
    clear_wake();
  }
  return true;
}

void Channel::clear_wake() {
  eventfd_t ignored = 0;
  ::eventfd_read(wake_fd_.get(), &ignored);
}

void Channel::close(CloseMode mode) {
  if (!fd_.valid()) {
    return;
  }
  if (mode == CloseMode::notify && ssl_) {
    forget_tls_errors();
    SSL_shutdown(ssl_.get());
  }
  if (mode == CloseMode::reset) {
    const linger at_once = {1, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  } else {
    // What was sent is to arrive even if something was left unread.
    ::shutdown(fd_.get(), SHUT_WR);
  }
  ssl_.reset();
  const std::lock_guard lock(mutex_);
  fd_.reset();
}

void Channel::wake() { ::eventfd_write(wake_fd_.get(), 1); }

void Channel::shut_down() {
  shut_down_ = true;
  const std::lock_guard lock(mutex_);
  if (fd_.valid()) {
    ::shutdown(fd_.get(), SHUT_RDWR);
  }
}

bool Channel::gone() const {
  if (shut_down_) {
    return true;
  }
  const std::lock_guard lock(mutex_);
  if (!fd_.valid()) {
    return true;
  }
  pollfd event = {fd_.get(), POLLRDHUP, 0};
  return ::poll(&event, 1, 0) > 0 && (event.revents & kGoneEvents) != 0;
}

}  // namespace upload::testserver
