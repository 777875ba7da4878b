// SPDX-License-Identifier: BSD-3-Clause
//
// Resender: brings what was acknowledged before to the server again, and makes it stable.
//
// Runs of it go over one connection, which is flushed at the end: what was achieved is kept,
// however often connections are lost. How many go before a flush grows while that works, and
// halves with each failure; and nobody keeps a connection from others for long.
//
// Thread safe.

#pragma once

#include <cstddef>
#include <span>

#include "base/status.h"
#include "volume/core.h"
#include "volume/exchange.h"
#include "volume/pieces.h"

namespace upload::volume {

class Resender {
 public:
  // Both outlive the resender.
  Resender(Core& core, Exchange& exchange) : core_(core), exchange_(exchange) {}

  // Makes the first of the requests stable on the server, and returns how many; the log
  // forgets them. Their ranges are held by the caller, so that nobody changes them. A
  // failure says nothing of any of them: those that were sent before it may be stable or
  // lost.
  Result<size_t> send_some(std::span<const Pieces> requests) EXCLUDES(core_.mutex);

  // Requests that are sent over one connection before it is flushed. With the core's mutex
  // held.
  [[nodiscard]] size_t most_requests() const {
    core_.mutex.assert_held();
    return most_;
  }

 private:
  Result<size_t> send_stable(std::span<const Pieces> requests) EXCLUDES(core_.mutex);

  static constexpr size_t kMost = 256;

  Core& core_;
  Exchange& exchange_;
  size_t most_ GUARDED_BY(core_.mutex) = kMost / 8;
};

}  // namespace upload::volume
