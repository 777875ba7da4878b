// SPDX-License-Identifier: BSD-3-Clause
//
// Counting what is reserved; what is in use is counted by the memory and by the rows.

#include "volume/budget.h"

#include <cassert>
#include <utility>

#include "journal/replay_log.h"
#include "journal/spool_index.h"

namespace upload::volume {

bool Budget::has_room_for(uint64_t bytes, bool to_spool, uint64_t spooled, bool own) const {
  const uint64_t memory = journal::ReplayLog::cost(bytes);
  const uint64_t room = to_spool ? journal::SpoolIndex::cost(bytes) : memory;
  if (spool_ > 0 && spooled + reserved_in_spool_ + memory_->used() + room > spool_) return false;
  return to_spool || memory <= (own ? memory_->own_left() : memory_->left());
}

bool Budget::reserve(Change& change, bool to_spool, uint64_t spooled) {
  if (!takes_room(change, to_spool)) return true;
  const uint64_t bytes = data_bytes(change);
  if (!has_room_for(bytes, to_spool, spooled)) return false;
  if (to_spool) {
    change.room = journal::SpoolIndex::cost(bytes);
    reserved_in_spool_ += change.room;
    change.to_spool = true;
    return true;
  }
  const uint64_t memory = journal::ReplayLog::cost(bytes);
  if (!memory_->reserve(memory)) return false;
  change.memory = memory;
  return true;
}

bool Budget::release(Change& change) {
  if (change.memory + change.room == 0) return false;
  memory_->unreserve(std::exchange(change.memory, 0));
  reserved_in_spool_ -= std::exchange(change.room, 0);
  return true;
}

void Budget::check(const std::vector<Change*>& changes, uint64_t data) const {
  uint64_t room = 0;
  uint64_t memory = 0;
  for (const Change* change : changes) {
    room += change->room;
    memory += change->memory;
  }
  assert(room == reserved_in_spool_);
  assert(memory <= memory_->used() && memory_->used() <= memory_->limit());
  assert(spool_ == 0 || data + reserved_in_spool_ + memory_->used() <= spool_);
  (void)data;
}

}  // namespace upload::volume
