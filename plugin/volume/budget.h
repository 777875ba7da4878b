// SPDX-License-Identifier: BSD-3-Clause
//
// Budget: what changes may take of the replay log's memory and of the spool. Room is
// reserved before a change goes anywhere, so that there is a place for it when it is
// acknowledged; neither ever holds more than its limit.
//
// What is in memory may have to move to the spool: there must be room for that too.
//
// A data structure without threads: its owner guards it.

#pragma once

#include <cstdint>
#include <memory>

#include "journal/memory.h"
#include "volume/change_queue.h"

namespace upload::volume {

class Budget {
 public:
  // Bytes; `spool` 0: there is none.
  Budget(std::shared_ptr<journal::Memory> memory, uint64_t spool)
      : memory_(std::move(memory)), spool_(spool) {}

  // Is there room for so many bytes of data? `spooled`: so many are in the spool.
  // `to_spool`: it is the spool that they would go to. `own`: without what could be borrowed
  // from other volumes.
  [[nodiscard]] bool has_room_for(uint64_t bytes, bool to_spool, uint64_t spooled,
                                  bool own = false) const;
  // The change takes room; what is stable when it is acknowledged takes none, unless it may get into
  // the spool.
  [[nodiscard]] bool takes_room(const Change& change, bool to_spool) const {
    return keeps_content() && (to_spool || !change.stable || spool_ > 0);
  }
  // Reserves it for the change; false: there is none. With `to_spool` it goes there from now on.
  [[nodiscard]] bool reserve(Change& change, bool to_spool, uint64_t spooled);
  // Gives back what was reserved for the change and not used; false: nothing.
  bool release(Change& change);

  // In bytes, by the changes that have not used it yet.
  [[nodiscard]] uint64_t reserved_in_spool() const { return reserved_in_spool_; }
  // Asserts that what is reserved is these changes', and that limits are kept. `data`: bytes
  // of data in the spool, without what rows cost besides.
  void check(const std::vector<Change*>& changes, uint64_t data) const;

  [[nodiscard]] static uint64_t data_bytes(const Change& change) {
    return change.is_zero() ? 0 : change.range.length;
  }

 private:
  [[nodiscard]] bool keeps_content() const { return memory_->exists(); }

  const std::shared_ptr<journal::Memory> memory_;
  const uint64_t spool_;
  uint64_t reserved_in_spool_ = 0;
};

}  // namespace upload::volume
