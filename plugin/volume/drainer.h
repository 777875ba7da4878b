// SPDX-License-Identifier: BSD-3-Clause
//
// Drainer: the jobs of a volume's spool: the way of changes out of it, to the server.
//
// Rows go in groups, the oldest first, as many groups side by side as there are connections
// (RowSender). A group has no row that touches a block of an older row outside it, but for
// rows that are gone: so no group hides what another one has, and groups may be sent and
// dropped in any order. The rows of a group are dropped, in one transaction, when what they
// have is stable on the server, while their range is held: what is left in the spool is right
// at any time (volume/spooler.h). Groups that are stable while a transaction is under way are
// dropped together in the next one.
//
// The threads do these jobs, and no others: a disk that hangs keeps neither the replay nor
// the making of room from the server. While the server is away one of them asks for it.

#pragma once

#include <deque>
#include <list>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "journal/spool.h"
#include "volume/core.h"
#include "volume/exchange.h"
#include "volume/replayer.h"
#include "volume/resender.h"
#include "volume/row_sender.h"
#include "volume/senders.h"
#include "volume/spooler.h"

namespace upload::volume {

class Drainer final : public JobSource {
 public:
  // All outlive the drainer.
  Drainer(Core& core, Spooler& spooler, Exchange& exchange, Resender& resender,
          Replayer& replayer);

  // So many threads are of use.
  [[nodiscard]] unsigned most_threads() const { return static_cast<unsigned>(senders_.size()); }
  Job next_job(TimePoint& not_before) override;

 private:
  using Rows = std::vector<journal::SpoolRow>;

  // What one thread does at a time.
  Job sole_job(TimePoint& not_before) REQUIRES(core_.mutex);
  Job ask_job(TimePoint& not_before) REQUIRES(core_.mutex);
  Job drop_dead_job() REQUIRES(core_.mutex);
  // What several do.
  Job group_job(TimePoint& not_before) REQUIRES(core_.mutex);

  bool is_time(TimePoint& not_before) const REQUIRES(core_.mutex);
  Rows take_oldest() REQUIRES(core_.mutex);
  RowSender& take_sender() REQUIRES(core_.mutex);
  void ask(RowSender& sender) EXCLUDES(core_.mutex);
  Status replay_first(RowSender& sender) EXCLUDES(core_.mutex);
  Status probe_if_unsure() EXCLUDES(core_.mutex);
  void drain(RowSender& sender, Rows rows) EXCLUDES(core_.mutex);
  Status send(RowSender& sender, Rows rows) EXCLUDES(core_.mutex);
  void rest(RowSender& sender, TimePoint began, const Status& status) EXCLUDES(core_.mutex);
  void give_back(RowGroup& group) REQUIRES(core_.mutex);
  void drop(RowGroup group) EXCLUDES(core_.mutex);
  bool drop_stable() EXCLUDES(core_.mutex);
  std::optional<uint64_t> note_taken() REQUIRES(core_.mutex);
  void say_back(uint64_t left) EXCLUDES(core_.mutex);
  void could_not_drop(const Status& failure) EXCLUDES(core_.mutex);
  void drain_failed(RowSender& sender, TimePoint began, const Status& failure)
      EXCLUDES(core_.mutex);
  void drop_dead(const std::vector<uint64_t>& dead) EXCLUDES(core_.mutex);
  [[nodiscard]] bool has_many_dead() const REQUIRES(core_.mutex);
  [[nodiscard]] bool is_drained() const REQUIRES(core_.mutex);
  void end_spooling() EXCLUDES(core_.mutex);

  Core& core_;
  Spooler& spooler_;
  Exchange& exchange_;
  Replayer& replayer_;
  journal::Spool& spool_;

  // Of a group: rows, and bytes of data.
  const size_t kMostRows;
  const uint64_t kMostData;
  size_t most_rows_ GUARDED_BY(core_.mutex);
  uint64_t most_data_ GUARDED_BY(core_.mutex);

  std::deque<RowSender> senders_;
  // The one that has rested for the shortest time comes last, and is taken first: what it
  // knows of failures is the newest.
  std::vector<RowSender*> resting_ GUARDED_BY(core_.mutex);
  // Groups whose rows can be dropped, and whether somebody is about to.
  std::list<RowGroup> stable_ GUARDED_BY(core_.mutex);
  bool dropping_ GUARDED_BY(core_.mutex) = false;
  // Somebody is at a sole_job().
  bool alone_ GUARDED_BY(core_.mutex) = false;
};

}  // namespace upload::volume
