// SPDX-License-Identifier: BSD-3-Clause
//
// Unflushed: all that is acknowledged and not stable on the server: the log, which knows of
// each byte where its newest content is, and the rows of the spool.
//
// What holds between the two: of each byte that a row is about, the newest acknowledged
// content is in the newest of those rows, and not in memory. (Bytes that no row is about may
// well be in memory, as orphans or on a dirty connection.) So after kill -9 the rows, in
// their order, are all that has to be known.
//
// A row of which newer rows hide everything is dead: it may be dropped from the store at any
// time, since what it hid of older rows, the newer ones hide. All others are dropped from
// the oldest on, when what they have is stable on the server. A row of which some bytes may
// be on the server already, and no longer in the log, is never dead.
//
// A data structure without threads or I/O: its owner guards it.

#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "journal/replay_log.h"
#include "journal/spool_index.h"

namespace upload::journal {

class Unflushed {
 public:
  // `memory` has no room: content is not kept, and the log knows dirty connections only.
  explicit Unflushed(const std::shared_ptr<Memory>& memory)
      : log(memory), keeps_content_(memory->exists()) {}

  ReplayLog log;

  [[nodiscard]] const SpoolIndex& rows() const { return rows_; }
  // Each row has its own.
  [[nodiscard]] uint64_t new_row_id() { return ++last_row_id_; }

  // The row is in the store. It is the newest content of its range.
  void add_row(const SpoolRow& row);
  // The row is in the store. What it has was the newest content of its range, in memory.
  void move_to_row(const SpoolRow& row);
  // The rows, which are the oldest, are about to go to the server, maybe not all at once.
  void begin_sending(std::span<const SpoolRow> rows);
  // Of the row's bytes, those that nothing newer hides and that are not yet stable.
  [[nodiscard]] std::vector<Slice> seen_slices(const SpoolRow& row) const;
  // The rows are no longer in the store: what they had is stable on the server.
  void rows_dropped(std::span<const SpoolRow> rows);

  [[nodiscard]] size_t dead_rows() const { return dead_rows_.size(); }
  // The caller drops them from the store, and then calls dead_rows_dropped(). Those that
  // could not be dropped stay until they are the oldest.
  [[nodiscard]] std::vector<uint64_t> take_dead_rows();
  void dead_rows_dropped(std::span<const uint64_t> ids);

  // Asserts what holds between log and rows, on a disk of so many bytes.
  void check(uint64_t size) const;

 private:
  [[nodiscard]] bool is_seen(const SpoolRow& row) const;

  const bool keeps_content_;
  SpoolIndex rows_;
  uint64_t last_row_id_ = 0;
  std::vector<uint64_t> dead_rows_;
  // Of rows up to that sequence some bytes may be on the server already.
  uint64_t partly_sent_ = 0;
};

}  // namespace upload::journal
