// SPDX-License-Identifier: BSD-3-Clause
//
// What holds between the parts of a volume whenever nobody has its mutex. Each part
// asserts what holds within it.
//
// The simulation asks at every unlock; nothing else does, since it takes as long as there
// is much in the log and in the spool. And when all threads wait it asks for what: a wake-up
// that was forgotten is seen there at once, also where something else would come to help.

#include <cassert>

#include "volume/volume.h"

namespace upload::volume {

void Volume::check(const Mutex& held) const {
  if (&held != &mutex_) return;
  queue_.check();
  log_.check();

  // What is in the spool is newer than what was in memory: of no byte there are both.
  const ByteRange disk{0, size()};
  for (const journal::Slice& slice : log_.slices(disk)) {
    assert(slice.range.end() <= size());
    const uint64_t row = slice.record->row;
    if (row == 0) {
      assert(replays() && !rows_.overlaps(slice.range));
      continue;
    }
    // What the log says to be in a row is there, and nothing newer hides it.
    const journal::SpoolRow* const found = rows_.find(row);
    assert(found != nullptr && found->sequence == slice.record->change);
    assert(found->range.offset <= slice.range.offset && slice.range.end() <= found->range.end());
    assert(!rows_.hides(*found, slice.range));
  }
  // Dropping it must not show what it hides.
  for (const uint64_t id : dead_rows_) {
    const journal::SpoolRow* const row = rows_.find(id);
    assert(row != nullptr && rows_.may_go(*row));
  }
  assert(state_ != State::kDirect || rows_.empty());
  assert(spools() || (rows_.empty() && state_ == State::kDirect && !appending_));

  // What is reserved is some change's, and limits are kept.
  uint64_t room = 0;
  uint64_t memory = 0;
  for (const Change* change : queue_.all()) {
    room += change->room;
    memory += change->memory;
  }
  assert(room == reserved_room_);
  assert(memory <= log_memory_->used() && log_memory_->used() <= log_memory_->limit());
  // Not what rows cost besides their data: a record that newer ones have cut becomes
  // several rows.
  const uint64_t data = rows_.used() - rows_.count() * journal::SpoolIndex::cost(0);
  assert(has_leftovers_ || data + reserved_room_ + log_memory_->used() <= options_.spool_size);

  assert(has_unknown_copies_ || !late_copies_.any_unknown());
  // After an error nobody is left in the queue who waits for a connection.
  assert(!latched_ || queue_.ready_count() == 0);
  assert(failed_attempts_ == 0 || failing_since_);
}

void Volume::check_waits() const {
  assert(waiting_flushes_.empty() || must_wait(*waiting_flushes_.begin()));
  assert(!waits_for_spool_ || spool_is_busy());
  assert(waiting_for_room_.empty() || !has_room_for(*waiting_for_room_.begin()));
  // A ready change has somebody who sees to it.
  assert(queue_.ready_count() == 0 || requested_ > 0);
  assert(queue_.ready_count(true) == 0 || appending_);
}

}  // namespace upload::volume
