// SPDX-License-Identifier: BSD-3-Clause
//
// Verdict: what a failed request means beyond itself. One pure table, of the kind of the
// failure and of what was asked for; nothing else decides whether a connection is retired,
// whether the server may yet apply a change, whether trying again may help, whether the
// volume's error latches, and which error number an NBD client sees. (A connection over which
// no reply has come is closed by then: Lease::perform has retired it.)
//
// docs/architecture.md and the manual show the table; tests/unit/documents_test.cpp compares
// them with it.
//
// Values and pure functions; thread safe.

#pragma once

#include <array>
#include <cerrno>
#include <cstdlib>

#include "base/status.h"

namespace upload::volume {

// What is asked of the server.
enum class Purpose {
  kRead,          // a question: data, extents, options; it changes nothing
  kChange,        // a write or a zero that a flush makes stable later
  kStableChange,  // one that is stable when it is acknowledged: FUA, and write-through
  kFlush,
  kKeepAlive,  // a flush, for the sake of the connection
  // All that it takes to bring to the server what was acknowledged before: a lease, changes,
  // a flush. It is repeated as a whole; each request of it has its own purpose.
  kResend,
};
inline constexpr std::array kPurposes = {Purpose::kRead,         Purpose::kChange,
                                         Purpose::kStableChange, Purpose::kFlush,
                                         Purpose::kKeepAlive,    Purpose::kResend};

// When the volume's error latches, besides when a connection with unflushed changes is lost.
enum class Latch { kNever, kWithoutReplay, kAlways };

struct Verdict {
  bool retire = false;        // the connection is not to be used again
  bool fate_unknown = false;  // of a change: the server may yet apply it
  bool repeat = false;        // with a replay log: it is tried again
  Latch latch = Latch::kNever;
  // Of those that reach an NBD client as they are (nbdkit-plugin(3), "ERROR HANDLING");
  // EINVAL would blame the client.
  int nbd_errno = EIO;

  friend constexpr bool operator==(const Verdict&, const Verdict&) = default;
};

// What the kind says, whatever was asked for.
constexpr Verdict verdict_of_kind(Kind kind) {
  switch (kind) {
    case Kind::kOk: return {.nbd_errno = 0};
    case Kind::kInvalid: return {};
    // Nothing was sent.
    case Kind::kConnect: return {.retire = true, .repeat = true};
    case Kind::kPoolWait: return {.repeat = true};
    case Kind::kLost:
    case Kind::kMalformed: return {.retire = true, .fate_unknown = true, .repeat = true};
    // What the proxy had behind this connection is gone, and it may have sent the request
    // on before it gave up.
    case Kind::kGateway: return {.retire = true, .fate_unknown = true, .repeat = true};
    // The server's storage client may be dead, with what was written since the last flush.
    case Kind::kServerError:
      return {
          .retire = true, .fate_unknown = true, .repeat = true, .latch = Latch::kWithoutReplay};
    case Kind::kUnavailable:
      return {.fate_unknown = true, .repeat = true};
      // Refused before its body was read.
    case Kind::kForgotten:
      return {.repeat = true};
      // Nothing was sent, or nothing of it was done: what the connection has carried is as it
      // was.
    case Kind::kLogin:
    case Kind::kBusy: return {.repeat = true};
    case Kind::kLoggedOut: return {.retire = true, .repeat = true};
    case Kind::kUnauthorized:
    case Kind::kRejected: return {};
    case Kind::kDenied: return {.latch = Latch::kAlways, .nbd_errno = EPERM};
    case Kind::kNoSpace: return {.nbd_errno = ENOSPC};
    case Kind::kNoMemory: return {.fate_unknown = true, .nbd_errno = ENOMEM};
    case Kind::kSpool: return {};
    case Kind::kClaimed: return {};
    // Another may be writing: nothing more is sent, and what was sent may yet be applied.
    case Kind::kClaimLost: return {.retire = true, .fate_unknown = true, .latch = Latch::kAlways};
    case Kind::kShutdown: return {.nbd_errno = ESHUTDOWN};
  }
  std::abort();  // no constant: a kind that is forgotten above does not compile
}

constexpr Verdict verdict(Kind kind, Purpose purpose) {
  Verdict verdict = verdict_of_kind(kind);
  if (kind == Kind::kOk || kind == Kind::kLogin || kind == Kind::kBusy) return verdict;
  switch (purpose) {
    case Purpose::kRead:
      verdict.fate_unknown = false;
      // A read has not written anything that could be gone.
      if (verdict.latch == Latch::kWithoutReplay) verdict.latch = Latch::kNever;
      break;
    case Purpose::kChange: break;
    // It ends in a flush, which has failed with it.
    case Purpose::kStableChange: verdict.retire = true; break;
    // What it was to cover may be gone (invariant 4), whatever the status says. The keeper
    // has nobody to return its failure to, so it latches also where nothing was unflushed
    // (invariant 6).
    case Purpose::kFlush:
    case Purpose::kKeepAlive:
      verdict.retire = true;
      verdict.fate_unknown = false;
      if (verdict.latch == Latch::kNever) verdict.latch = Latch::kWithoutReplay;
      break;
    case Purpose::kResend:
      // Memory that is short passes like an outage; a request that has promised nothing
      // fails instead.
      if (kind == Kind::kNoMemory) verdict.repeat = true;
      // There is a replay log.
      if (verdict.latch == Latch::kWithoutReplay) verdict.latch = Latch::kNever;
      break;
  }
  return verdict;
}

// Of a failure of the spool's disk, not of the server: it has changed nothing, and there may
// be room later. Any other ends the volume.
constexpr bool disk_may_recover(Kind kind) {
  return kind == Kind::kNoSpace || kind == Kind::kNoMemory;
}

// Each pair has a verdict, which is a constant.
constexpr bool is_exhaustive() {
  for (const Kind kind : kKinds)
    for (const Purpose purpose : kPurposes)
      if (verdict(kind, purpose).nbd_errno == 0 && kind != Kind::kOk) return false;
  return true;
}
static_assert(is_exhaustive());
static_assert(kPurposes.size() == static_cast<size_t>(Purpose::kResend) + 1);

}  // namespace upload::volume
