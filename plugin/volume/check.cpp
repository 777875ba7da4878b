// SPDX-License-Identifier: BSD-3-Clause
//
// What holds between the parts of a core whenever nobody has its mutex. Each part asserts
// what holds within it.
//
// The simulation asks at every unlock; nothing else does, since it takes as long as there
// is much in the log and in the spool. And when all threads wait it asks for what: a wake-up
// that was forgotten is seen there at once, also where something else would come to help.

#include <cassert>

#include "volume/core.h"

namespace upload::volume {

void Core::check() const {
  queue.check();
  unflushed.check(options.size);
  drain_progress.check();

  const journal::SpoolIndex& rows = unflushed.rows();
  assert(spool_state != SpoolState::kDirect || rows.empty());
  assert(options.spool || (rows.empty() && spool_state == SpoolState::kDirect && !appending));
  // Not what rows cost besides their data: a record that newer ones have cut becomes
  // several rows. What an earlier run has left may be more than there is room for now.
  const uint64_t data = rows.used() - rows.count() * journal::SpoolIndex::cost(0);
  budget.check(queue.all(), has_leftovers ? 0 : data);

  assert(has_unknown_copies_ || !late_copies.any_unknown());
  // After an error nobody is left in the queue who waits for a connection.
  assert(!health.latched() || queue.ready_count() == 0);
}

void Core::check_waits() const {
  assert(waiting_flushes.empty() || must_wait(*waiting_flushes.begin()));
  assert(!waits_for_spool || spool_is_busy());
  // What other volumes give back is nothing to wait for: nobody tells.
  assert(waiting_for_room.empty() || !has_room_for(*waiting_for_room.front(), true));
  // What is unsent has somebody who sends it, or a change in the queue is done before.
  assert(!unflushed.log.has_unsent() || sending_jobs > 0 || senders_stuck || health.over() ||
         spool_state == SpoolState::kSpooling);
  assert(!senders_stuck || !queue.empty());
  // A ready change has somebody who sees to it.
  assert(queue.ready_count() == 0 || requested_ > 0);
  assert(queue.ready_count(true) == 0 || appending);
}

}  // namespace upload::volume
