// SPDX-License-Identifier: BSD-3-Clause
//
// Drainer: the jobs of a volume's spool: the way of changes out of it, to the server.
//
// Rows go the oldest first. They are dropped, in one transaction, when what they have is
// stable on the server and no older row is left that they hide, while their range is held:
// what is left in the spool is right at any time (volume/spooler.h).
//
// One thread does these jobs, and no others: a disk that hangs keeps neither the replay nor
// the making of room from the server.

#pragma once

#include <list>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "journal/spool.h"
#include "volume/core.h"
#include "volume/exchange.h"
#include "volume/replayer.h"
#include "volume/resender.h"
#include "volume/retry.h"
#include "volume/senders.h"
#include "volume/spooler.h"

namespace upload::volume {

class Drainer final : public JobSource {
 public:
  // All outlive the drainer.
  Drainer(Core& core, Spooler& spooler, Exchange& exchange, Resender& resender,
          Replayer& replayer);

  Job next_job(TimePoint& not_before) override;

 private:
  void drain() EXCLUDES(core_.mutex);
  Status probe_if_unsure() EXCLUDES(core_.mutex);
  Status drain_oldest() EXCLUDES(core_.mutex);
  bool hold_rows(std::span<const journal::SpoolRow> rows, HeldRanges& held) REQUIRES(core_.mutex);
  std::vector<journal::Slice> slices_to_send(std::vector<journal::SpoolRow>& rows)
      REQUIRES(core_.mutex);
  Status send(const std::vector<journal::Slice>& slices) EXCLUDES(core_.mutex);
  void drop(const std::vector<journal::SpoolRow>& rows) EXCLUDES(core_.mutex);
  void dropped(const std::vector<journal::SpoolRow>& rows) EXCLUDES(core_.mutex);
  void drain_failed(const Status& failure) EXCLUDES(core_.mutex);
  void drop_dead() EXCLUDES(core_.mutex);
  [[nodiscard]] bool has_many_dead() const REQUIRES(core_.mutex);
  [[nodiscard]] bool is_drained() const REQUIRES(core_.mutex);
  void end_spooling() EXCLUDES(core_.mutex);

  // Rows that go to the server, and are dropped, together.
  static constexpr size_t kMostRows = 256;

  Core& core_;
  Spooler& spooler_;
  Exchange& exchange_;
  Resender& resender_;
  Replayer& replayer_;
  journal::Spool& spool_;

  size_t most_rows_ GUARDED_BY(core_.mutex) = kMostRows;
  // For the one thread of the jobs only.
  std::optional<Retry> retry_;
};

}  // namespace upload::volume
