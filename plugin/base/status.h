// SPDX-License-Identifier: BSD-3-Clause
//
// Status and Result: how every room reports failure.
//
// A Status is success or a failure: a kind, which drives what is done about
// it, and one line of text, which is what the user reads. Neither may be
// dropped on the floor: both types are [[nodiscard]]. Exceptions are left for
// allocation. Values; no thread safety of their own.

#pragma once

#include <array>
#include <cassert>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace upload {

enum class Kind {
  kOk,
  kInvalid,       // the caller's parameter or request is wrong; nothing was sent
  kConnect,       // no connection could be made; nothing was sent
  kLost,          // the connection broke, or what became of the request is unknown
  kMalformed,     // a reply that contradicts HTTP or the request; the connection is lost
  kServerError,   // 500: what was written since the last flush may be gone
  kUnauthorized,  // 401
  kLogin,         // there is no login; nothing was done, and the connection is as it was
  kLoggedOut,     // refused for want of a valid login, with the connection; there is a new one
  kDenied,        // 403, 404, 410: the ticket does not allow this (any more)
  kForgotten,     // as kDenied, where a server that was restarted may learn its tickets yet
  kUnavailable,   // 408, 429, 503: not now
  kBusy,          // the server itself, no proxy, has refused what is too much: nothing was done
  kGateway,       // 502, 504: a proxy can't reach the server, or has lost it
  kNoSpace,       // 413, 507
  kRejected,      // any other status that is not success
  kPoolWait,      // no connection became free in time
  kSpool,         // the spool on disk can't be used, or is damaged
  kClaimed,       // the claim is another's, or the disk is in a state that must not be taken over
  kClaimLost,     // the claim is not ours any more, or may be another's; whatever was sent
  kShutdown,      // the plugin is being unloaded
  kNoMemory,
};
inline constexpr std::array kKinds = {
    Kind::kOk,          Kind::kInvalid,      Kind::kConnect, Kind::kLost,      Kind::kMalformed,
    Kind::kServerError, Kind::kUnauthorized, Kind::kLogin,   Kind::kLoggedOut, Kind::kDenied,
    Kind::kForgotten,   Kind::kUnavailable,  Kind::kBusy,    Kind::kGateway,   Kind::kNoSpace,
    Kind::kRejected,    Kind::kPoolWait,     Kind::kSpool,   Kind::kClaimed,   Kind::kClaimLost,
    Kind::kShutdown,    Kind::kNoMemory,
};
static_assert(kKinds.size() == static_cast<size_t>(Kind::kNoMemory) + 1);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Kind kind, std::string text) : kind_(kind), text_(std::move(text)) {
    assert(kind != Kind::kOk);
  }

  [[nodiscard]] bool ok() const { return kind_ == Kind::kOk; }
  [[nodiscard]] Kind kind() const { return kind_; }
  // One line, without a final full stop; empty for success.
  [[nodiscard]] const std::string& text() const { return text_; }

  // The same failure, with what was being done put before it.
  [[nodiscard]] Status while_doing(std::string_view what) const {
    Status status = *this;
    if (!ok()) status.text_ = std::string(what) + ": " + text_;
    return status;
  }

  // How long the server wants to be left alone (RFC 9110, section 10.2.3).
  [[nodiscard]] std::chrono::seconds retry_after() const { return retry_after_; }
  void set_retry_after(std::chrono::seconds time) { retry_after_ = time; }

 private:
  Kind kind_ = Kind::kOk;
  std::string text_;
  std::chrono::seconds retry_after_{0};
};

// A value, or the failure that kept it from being made.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}           // NOLINT
  Result(Status failure) : status_(std::move(failure)) {  // NOLINT
    assert(!status_.ok());
  }

  [[nodiscard]] bool ok() const { return value_.has_value(); }
  // Only if ok().
  [[nodiscard]] T& value() { return *value_; }
  [[nodiscard]] const T& value() const { return *value_; }
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace upload
