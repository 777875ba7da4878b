// SPDX-License-Identifier: BSD-3-Clause
//
// How many requests go over a connection before it is flushed is learned from how that went.

#include "volume/resender.h"

#include <algorithm>

namespace upload::volume {

namespace {

// With a connection that others wait for.
constexpr Duration kLongestTurn = std::chrono::milliseconds(500);

}  // namespace

Result<size_t> Resender::send_some(std::span<const Pieces> requests) {
  size_t most = 0;
  {
    MutexLock lock(core_.mutex);
    most = std::min(most_, requests.size());
  }
  Result<size_t> sent = send_stable(requests.first(most));
  MutexLock lock(core_.mutex);
  if (sent.ok()) {
    for (const Pieces& request : requests.first(sent.value()))
      core_.unflushed.log.supersede(range_of(request));
    most_ = std::min(kMost, most_ + most_ / 4 + 1);
    core_.wake_waiting();
  } else {
    // Less is more likely to get through, where much is lost.
    most_ = std::max<size_t>(1, most / 2);
  }
  return sent;
}

Result<size_t> Resender::send_stable(std::span<const Pieces> requests) {
  Result<upstream::Lease> lease = core_.lease();
  if (!lease.ok()) return lease.status();
  lease.value().replace_if_closed();
  const TimePoint enough = core_.clock.now() + kLongestTurn;
  // One alone is stable with its own reply.
  const bool one = requests.size() == 1 || core_.options.stable_on_reply();
  const Purpose purpose = one ? Purpose::kStableChange : Purpose::kChange;
  size_t sent = 0;
  do {
    if (Status status = core_.latched(); !status.ok()) return status;
    if (Status status = exchange_.resend(lease.value(), requests[sent], purpose); !status.ok())
      return status;
    ++sent;
  } while (!one && sent < requests.size() && core_.clock.now() < enough);
  if (!one)
    if (Status status = exchange_.flush(lease.value(), Purpose::kFlush); !status.ok())
      return status;
  return sent;
}

}  // namespace upload::volume
