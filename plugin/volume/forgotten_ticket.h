// SPDX-License-Identifier: BSD-3-Clause
//
// ForgottenTicket: whether a server that denies a ticket may have forgotten it in a restart,
// and is to be told it again by somebody (denied-wait=).
//
// A server that was restarted has closed its connections. So a ticket that is denied after a
// connection was lost is waited for, for a while since it was first denied. A server that
// can't be reached is in another outage, after which it may have forgotten the ticket again;
// a connection that is lost says less, since one who denies may close it before he has read
// all.
//
// A data structure without threads: its owner guards it.

#pragma once

#include <optional>

#include "base/clock.h"
#include "base/status.h"

namespace upload::volume {

class ForgottenTicket {
 public:
  // `wait`: for how long a denied ticket is waited for; zero: not at all. `retry_time`: for
  // how long an outage may last before.
  ForgottenTicket(Duration wait, Duration retry_time) : wait_(wait), retry_time_(retry_time) {}

  void connection_lost(TimePoint now) { lost_ = now; }
  // The failure as it is, or, while the ticket is waited for, as Kind::kForgotten.
  // `last_success`: when a change or a flush has last succeeded.
  [[nodiscard]] Status look_at(Status failure, TimePoint now, TimePoint last_success);

 private:
  const Duration wait_;
  const Duration retry_time_;
  // When a connection was last lost, and when the ticket was denied for the first time since
  // a change or a flush has succeeded, or the server could not be reached.
  std::optional<TimePoint> lost_;
  std::optional<TimePoint> denied_since_;
};

}  // namespace upload::volume
