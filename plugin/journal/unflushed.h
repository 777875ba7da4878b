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
// time, since what it hid of older rows, the newer ones hide. All others are dropped when what
// they have is stable on the server, and of no older row that is left they hide anything. A row of which some bytes may
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
  // The oldest rows that may go together (SpoolIndex::oldest). They are the caller's, who has
  // them dropped or gives them back: until then nobody else gets them, and they are not dead.
  [[nodiscard]] std::vector<SpoolRow> take_oldest(const SpoolIndex::Most& most);
  void give_back(std::span<const SpoolRow> rows);
  // Rows that were taken are about to go to the server, maybe not all at once.
  void begin_sending(std::span<const SpoolRow> rows);
  // Of the row's bytes, those that nothing newer hides and that are not yet stable.
  [[nodiscard]] std::vector<Slice> seen_slices(const SpoolRow& row) const;
  // The rows are no longer in the store: what they had is stable on the server.
  void rows_dropped(std::span<const SpoolRow> rows);

  [[nodiscard]] size_t dead_rows() const { return dead_rows_.size(); }
  // The caller drops them from the store, and then tells whether that was done; until then
  // nobody else gets them. Those that could not be dropped stay until they are the oldest.
  [[nodiscard]] std::vector<uint64_t> take_dead_rows();
  void dead_rows_dropped(std::span<const uint64_t> ids, bool done);

  // Asserts what holds between log and rows, on a disk of so many bytes.
  void check(uint64_t size) const;

 private:
  [[nodiscard]] bool is_seen(const SpoolRow& row) const;
  void note_if_dead(const SpoolRow& row);

  const bool keeps_content_;
  SpoolIndex rows_;
  uint64_t last_row_id_ = 0;
  uint64_t last_group_ = SpoolIndex::kDropping;
  std::vector<uint64_t> dead_rows_;
  // Of rows up to that sequence some bytes may be on the server already.
  uint64_t partly_sent_ = 0;
};

}  // namespace upload::journal
