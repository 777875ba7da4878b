// SPDX-License-Identifier: BSD-3-Clause
//
// The life of a connection.
//
// Accepted, perhaps met by a fault, TLS handshake, then one request after the other until
// the client closes, a reply closes, a fault closes, or nothing comes for too long. At
// the end the order matters: first the storage clients go, and with them whatever was
// not flushed, then the connection is counted as gone, and only then does the client see
// the close. So a client that reacts to the close finds the image as it will be.
//
// Threads: run() is the owner's; drop(), drop_if_idle() and wake() are anybody's. Whether
// a connection is idle changes under the same lock under which it is dropped for being
// so: no request that has been begun is lost by that.
//
// Errors: all of them end in a close. Timeouts: the handshake has a fixed bound; a single
// read or write within a request that of an idle connection, but not less than some
// seconds, since tests make the idle time very short.

#include "connection.h"

#include <algorithm>
#include <utility>

namespace upload::testserver {

namespace {

constexpr std::chrono::seconds kHandshakeTimeout{60};
constexpr std::chrono::milliseconds kLeastTransferTimeout{10'000};

using Clock = std::chrono::steady_clock;

}  // namespace

Connection::Connection(ServerState& state, ConnectionId id, FileDescriptor fd, SSL_CTX* tls,
                       FiredFault fault)
    : state_(state),
      tls_(tls),
      fault_(std::move(fault)),
      channel_(std::move(fd)),
      reader_(channel_),
      handler_(state, id, channel_) {}

void Connection::run() {
  CloseMode mode = CloseMode::silent;
  if (fault_ && fault_->action == Action::reset) {
    mode = CloseMode::reset;
  }
  if (meet_fault() && handshake()) {
    mode = CloseMode::silent;
    while (wait_for_request()) {
      if (const auto close = serve_one()) {
        mode = *close;
        break;
      }
    }
  }
  finish(mode);
}

bool Connection::meet_fault() {
  if (!fault_) {
    return true;
  }
  if (!channel_.sleep_for(fault_->delay)) {
    return false;
  }
  switch (fault_->action) {
    case Action::delay: return true;
    case Action::stall: return handler_.stall();
    case Action::no_handshake:
      while (handler_.stall()) {
      }
      return false;
    case Action::garbage: send_garbage(channel_); return false;
    default: return false;
  }
}

bool Connection::handshake() {
  if (tls_ == nullptr) {
    return true;
  }
  channel_.set_timeout(kHandshakeTimeout);
  const bool ok = channel_.handshake(tls_);
  state_.board.update([&](Counters& counters) {
    ++(ok ? counters.tls_handshakes : counters.tls_handshake_failures);
  });
  return ok;
}

bool Connection::wait_for_request() {
  const auto start = Clock::now();
  {
    const std::lock_guard lock(mutex_);
    idle_ = !reader_.has_buffered();
  }
  bool readable = reader_.has_buffered();
  while (!readable) {
    const auto idle = handler_.idle_timeout();
    auto left = std::chrono::milliseconds(0);
    if (idle.count() > 0) {
      left = std::chrono::ceil<std::chrono::milliseconds>(start + idle - Clock::now());
      if (left.count() <= 0) {
        return false;
      }
    }
    const auto waited = channel_.wait_readable(left);
    if (waited == Channel::Wait::timed_out) {
      return false;
    }
    readable = waited == Channel::Wait::readable;
  }
  const std::lock_guard lock(mutex_);
  idle_ = false;
  return !dropped_;
}

std::optional<CloseMode> Connection::serve_one() {
  const auto idle = handler_.idle_timeout();
  channel_.set_timeout(idle.count() > 0 ? std::max(idle, kLeastTransferTimeout) : idle);
  std::string problem;
  switch (reader_.read_header(problem)) {
    case HttpReader::Header::end: return CloseMode::silent;
    case HttpReader::Header::malformed: return refuse_malformed(problem);
    case HttpReader::Header::complete: break;
  }
  Exchange exchange;
  Reply reply = handler_.handle(reader_, exchange);
  after_close_ = std::move(reply.after_close);
  if (reply.drop) {
    return reply.drop;
  }
  reply.close = reply.close || !reader_.keep_alive();
  const auto close = send_reply(channel_, std::move(reply), exchange.fault, exchange.head_only);
  if (!close && !reader_.discard_body()) {
    return CloseMode::silent;
  }
  return close;
}

std::optional<CloseMode> Connection::refuse_malformed(const std::string& problem) {
  state_.board.update([](Counters& counters) {
    ++counters.requests[static_cast<std::size_t>(Op::other)];
    ++counters.replies;
    ++counters.error_replies;
  });
  return send_reply(channel_, Reply::refused({400, "Bad request: " + problem, true}), nullptr,
                    false);
}

void Connection::finish(CloseMode mode) {
  handler_.close_sessions();
  state_.board.update([](Counters& counters) { --counters.connections_open; });
  channel_.close(mode);
  if (after_close_) {
    after_close_();
  }
}

void Connection::drop() {
  {
    const std::lock_guard lock(mutex_);
    dropped_ = true;
  }
  channel_.shut_down();
}

bool Connection::drop_if_idle() {
  const std::lock_guard lock(mutex_);
  if (!idle_ || dropped_) {
    return false;
  }
  dropped_ = true;
  channel_.shut_down();
  return true;
}

}  // namespace upload::testserver
