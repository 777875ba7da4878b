// SPDX-License-Identifier: BSD-3-Clause
//
// When a denied ticket is an outage, and for how long.

#include "volume/forgotten_ticket.h"

#include "base/format.h"

namespace upload::volume {

Status ForgottenTicket::look_at(Status failure, TimePoint now, TimePoint last_success) {
  if (wait_ == Duration::zero()) return failure;
  if (failure.kind() == Kind::kConnect) denied_since_.reset();
  if (failure.kind() != Kind::kDenied) return failure;
  const bool restarted = lost_ && now - *lost_ <= wait_ + retry_time_;
  if (!restarted) return failure;
  if (!denied_since_ || *denied_since_ < last_success) denied_since_ = now;
  const Duration denied = now - *denied_since_;
  if (denied >= wait_)
    return {Kind::kDenied,
            failure.text() + format(" (waited for %lld seconds, denied-wait=)", seconds(denied))};
  return {
      Kind::kForgotten,
      failure.text() + format(" (waiting for up to %lld seconds, denied-wait=)", seconds(wait_))};
}

}  // namespace upload::volume
