// SPDX-License-Identifier: BSD-3-Clause
//
// RowSender: the way of one group of rows to the server. There are some, so that groups go
// over several connections side by side; no two groups touch the same block.
//
// Each knows how its own attempts have failed: a server that has closed all connections fails
// one request of each sender, and is not away for that.
//
// One thread at a time, which may be another each time.

#pragma once

#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "journal/store.h"
#include "volume/core.h"
#include "volume/resender.h"
#include "volume/retry.h"
#include "volume/spooler.h"

namespace upload::volume {

// Rows that go to the server, and are dropped, together. Nobody else has any of them
// (Unflushed::take_oldest).
struct RowGroup {
  std::vector<journal::SpoolRow> rows;  // the oldest first
  // So many of them, the first, are sent now; the others stay for later.
  size_t sent = 0;
  HeldRanges held;
};

class RowSender {
 public:
  // All outlive the sender.
  RowSender(Core& core, Spooler& spooler, Resender& resender)
      : core_(core), spooler_(spooler), resender_(resender) {}

  // Takes all the ranges that requests for the rows write, and makes stable what the rows
  // have, as far as newer ones don't hide it, and late copies don't forbid it. The ranges are
  // the group's from then on, also after a failure.
  Status send(RowGroup& group) EXCLUDES(core_.mutex);
  // When to try again after a failure; nothing: never.
  [[nodiscard]] std::optional<TimePoint> next_attempt(const Status& failure);
  // The failures so far do not count any more.
  void succeeded() { retry_.reset(); }

 private:
  bool hold(RowGroup& group) REQUIRES(core_.mutex);
  std::vector<journal::Slice> slices_to_send(RowGroup& group) REQUIRES(core_.mutex);
  Status send(const std::vector<journal::Slice>& slices) EXCLUDES(core_.mutex);

  Core& core_;
  Spooler& spooler_;
  Resender& resender_;
  // Since the server has last taken something from this sender.
  std::optional<Retry> retry_;
};

}  // namespace upload::volume
