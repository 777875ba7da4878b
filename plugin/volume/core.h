// SPDX-License-Identifier: BSD-3-Clause
//
// Core: all that one disk's mutex guards, and what is done under it.
//
// The parts are data structures that know nothing of each other. What holds between them is
// kept here, in one step each, under the one mutex: "a change that overlaps a row becomes a
// row" spans queue, log and rows. Those who do the volume's work (Writer, Flusher, Reader,
// Exchange, Mode, Replayer, Resender, Spooler, Drainer) share the core and have no mutex of
// their own for what belongs to the disk.
//
// No I/O, and no thread: waits for connections are put into the pool's line, which answers
// on a thread of its own choice. No lease is given back while the mutex is held, since that
// calls volumes; and no line is written.
//
// Lack of memory in the book-keeping ends the process (noexcept): a change of a thread that
// has gone must not stay in the queue.

#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/stats.h"
#include "journal/unflushed.h"
#include "upstream/pool.h"
#include "volume/budget.h"
#include "volume/change_queue.h"
#include "volume/drain_progress.h"
#include "volume/figures.h"
#include "volume/forgotten_ticket.h"
#include "volume/health.h"
#include "volume/late_copies.h"
#include "volume/options.h"
#include "volume/pieces.h"
#include "volume/retry.h"
#include "volume/spool_state.h"

namespace upload::volume {

// Ranges that are held in the queue, by changes that are never sent.
using HeldRanges = std::list<Change>;

class Core final : private upstream::LeaseWaiter {
 public:
  // `pool`, `clock` and `stats` outlive the core.
  Core(VolumeOptions volume_options, upstream::Pool& pool, Clock& its_clock, Stats& its_stats);
  // Nothing is in the queue.
  ~Core() override;
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  const VolumeOptions options;
  // With its own synchronisation.
  upstream::Share share;
  Clock& clock;
  Stats& stats;
  // Of the log, with its own synchronisation.
  const std::shared_ptr<journal::Memory> log_memory;

  // Taken before the pool's mutex.
  mutable Mutex mutex;
  ChangeQueue queue GUARDED_BY(mutex);
  // Changes whose fate is unknown: the server may be applying them yet.
  LateCopies late_copies GUARDED_BY(mutex);
  journal::Unflushed unflushed GUARDED_BY(mutex);
  Budget budget GUARDED_BY(mutex);
  Health health GUARDED_BY(mutex);
  ForgottenTicket forgotten_ticket GUARDED_BY(mutex);
  DrainProgress drain_progress GUARDED_BY(mutex);
  // When a wait, or an attempt, was last found to have ended much too late: the process had
  // been stopped, and whoever waits gets another round.
  TimePoint resumed GUARDED_BY(mutex) = TimePoint::min();
  // How many changes were begun, for whoever remembers what the disk was like.
  uint64_t changes_begun GUARDED_BY(mutex) = 0;
  // How many were acknowledged; of these, how many before the beginning of a flush that a client
  // has asked for and that has succeeded; and whether there was such a flush.
  uint64_t changes_acknowledged GUARDED_BY(mutex) = 0;
  uint64_t changes_flushed GUARDED_BY(mutex) = 0;
  bool flushed GUARDED_BY(mutex) = false;
  // An earlier process has left rows.
  bool had_leftovers GUARDED_BY(mutex) = false;

  // The spool's; see Spooler.
  SpoolState spool_state GUARDED_BY(mutex) = SpoolState::kDirect;
  // Somebody is writing rows.
  bool appending GUARDED_BY(mutex) = false;
  // Rows of an earlier run are not all on the server.
  bool has_leftovers GUARDED_BY(mutex) = false;

  // Looked at without the mutex: a change or a flush has last succeeded then, and any request.
  std::atomic<TimePoint> last_success;
  std::atomic<TimePoint> ticket_used;

  // --- Waiting and waking. One condition variable for each reason ---

  // An error, the end, another state, or more is known of late copies.
  CondVar state_changed;
  // Something has become stable, and one of those who wait can go on.
  CondVar became_stable;
  // There may be a job of the replayer, of those who send what is unsent, and of the drainer.
  CondVar replay_work;
  CondVar send_work;
  CondVar spool_work;
  // Who waits for `became_stable`: what each flush is to cover, and whether anybody waits for the
  // spool to be empty, or for all to be sent.
  std::multiset<uint64_t> waiting_flushes GUARDED_BY(mutex);
  bool waits_for_spool GUARDED_BY(mutex) = false;
  bool waits_for_sent GUARDED_BY(mutex) = false;
  // Changes that wait for room in the log or the spool, each for its `turn`, in the order in which
  // they came: a large one is not overtaken for ever.
  std::deque<Change*> waiting_for_room GUARDED_BY(mutex);
  // One has come to wait since a job began to make room; and that job has not ended.
  bool room_wanted GUARDED_BY(mutex) = false;
  bool making_room GUARDED_BY(mutex) = false;

  // WriteBack's: its jobs that have not ended; and whether changes in the queue keep all that is
  // unsent, which is looked at again when one is done.
  size_t sending_jobs GUARDED_BY(mutex) = 0;
  bool senders_stuck GUARDED_BY(mutex) = false;

  void wait_for(CondVar& reason, TimePoint until) REQUIRES(mutex);
  // Since when a wait has lasted that began at `start`, but for the time before the process was
  // last stopped.
  [[nodiscard]] TimePoint waiting_since(TimePoint start) const REQUIRES(mutex) {
    return std::max(start, resumed);
  }
  // After an error, another state, or the end.
  void wake_all() REQUIRES(mutex);
  // After anything else that may be what somebody waits for.
  void wake_waiting() REQUIRES(mutex);
  // After what may be work for any of them.
  void wake_workers() REQUIRES(mutex);
  // After the log has more to flush, or somebody wants room.
  void wake_if_room_is_due() REQUIRES(mutex);

  // Waits for any connection, as Share::lease() does.
  [[nodiscard]] Result<upstream::Lease> lease() EXCLUDES(mutex);

  // --- Changes: which goes where, and when ---

  // The change is in the queue: it has begun.
  void enqueue(Change& change) REQUIRES(mutex);
  // Puts waits into the pool's line, one for each ready change but not more than can lead at
  // a time; and chooses who appends to the spool. After anything that makes changes ready.
  void find_leaders() REQUIRES(mutex);
  // The changes are done: what was reserved for them is given back, and their threads wake.
  void finish(const std::vector<Change*>& changes, const Status& result) REQUIRES(mutex);
  // Takes the ranges in the queue, all together, like changes: waits until earlier changes
  // there are done. No two of them may touch one block. False: those who wait have failed
  // meanwhile, and nothing is held.
  bool hold(HeldRanges& ranges) REQUIRES(mutex);
  void let_go(HeldRanges& ranges) REQUIRES(mutex);

  // --- Questions that span the parts ---

  // All that a request for it writes; see target::Traits::alignment.
  [[nodiscard]] ByteRange blocks_of(ByteRange range) const {
    return upload::blocks_of(range, options.limits.block);
  }
  // The answer stays true while the caller has the range to itself.
  [[nodiscard]] bool belongs_into_spool(ByteRange range) const REQUIRES(mutex);
  // `own`: without what could be borrowed from other volumes.
  [[nodiscard]] bool has_room_for(const Change& change, bool own = false) const REQUIRES(mutex);
  // A flush of all connections is due, to make room.
  [[nodiscard]] bool is_room_due() const REQUIRES(mutex);
  // Of the first so many acknowledged changes, is anything unstable that needs no flush but
  // to be sent again, or to get into the spool?
  [[nodiscard]] bool must_wait(uint64_t acknowledged) const REQUIRES(mutex);
  [[nodiscard]] bool spool_is_busy() const REQUIRES(mutex);
  // What is unsent is not to be kept until there is more.
  [[nodiscard]] bool somebody_waits_for_sending() const REQUIRES(mutex) {
    return !waiting_flushes.empty() || waits_for_sent;
  }
  // Until when whatever began at `start` waits for the server to take what is in the spool.
  [[nodiscard]] TimePoint give_up_on_spool_at(TimePoint start) const REQUIRES(mutex);
  // Of such a wait; `doing` is what could not be done.
  [[nodiscard]] Status waited_for_spool(const char* doing) const REQUIRES(mutex);
  // In words.
  [[nodiscard]] std::string left_in_spool() const REQUIRES(mutex);
  // Until when copies of other changes may come to where these go; nothing: none can.
  [[nodiscard]] std::optional<TimePoint> in_doubt(const Pieces& pieces) REQUIRES(mutex);

  // --- What has happened ---

  // Every later request fails with that, and whoever waits learns it. One line says so, after
  // the mutex. Nothing happens if an error has latched before, or at the end, when requests
  // are refused anyway.
  void latch(const Status& why) EXCLUDES(mutex);
  // The step of it that is done under the mutex, for a caller who has to do more in the same
  // step; say_latched() is due after it. Also at the end: what is lost is not called stable.
  void latch_now(const Status& why) REQUIRES(mutex);
  static void say_latched(const Status& why);
  // The latched error; ok() if there is none.
  [[nodiscard]] Status latched() const EXCLUDES(mutex);
  // What a request ends with that failed like this: the error that has latched tells more.
  [[nodiscard]] Status latched_or(const Status& failure) const EXCLUDES(mutex);
  // One line for each outage, and one at its end.
  void note_outage(const Status& why) EXCLUDES(mutex);
  void note_success() EXCLUDES(mutex);
  // The server has answered a request that began then, and so is alive.
  void note_answer(TimePoint began) EXCLUDES(mutex);
  // An attempt that began then has ended. If it has taken longer than it can, the process had
  // been stopped.
  void note_attempt(TimePoint began) EXCLUDES(mutex);
  // The server may yet apply a change to `own`, and write the rest of the range as it was. Only the
  // change with that sequence may go there meanwhile; 0: none.
  void note_late_copy(ByteRange range, ByteRange own, uint64_t sequence) REQUIRES(mutex);
  // The process is to end: whoever waits for the server gives up, and threads end.
  void stop() EXCLUDES(mutex);
  // One line, once: what was acknowledged and is not on the server; nothing if there is none.
  // With `why` there is a line anyway, which begins with that.
  void say_what_is_left(const char* why = nullptr) EXCLUDES(mutex);
  // The server has taken nothing of what is in the spool, by an attempt that began then.
  void note_draining_fails(TimePoint began = TimePoint::max()) REQUIRES(mutex);

  // How the volume is doing now.
  [[nodiscard]] VolumeFigures figures() const EXCLUDES(mutex);

  // Asserts what holds between the parts (check.cpp).
  void check() const REQUIRES(mutex);
  // Asserts that nobody waits for what is so already. No thread runs, nor can run.
  void check_waits() const REQUIRES(mutex);

 private:
  void granted(Result<upstream::Lease> lease) noexcept override EXCLUDES(mutex);
  void lead(Result<upstream::Lease> lease) REQUIRES(mutex);
  void lead_append() REQUIRES(mutex);
  // In words, what was acknowledged and can't be found on the server; empty: nothing, or an
  // error has told of it.
  [[nodiscard]] std::string not_on_server() const REQUIRES(mutex);

  // Waits in the pool's line on behalf of ready changes.
  size_t requested_ GUARDED_BY(mutex) = 0;
  bool said_what_is_left_ GUARDED_BY(mutex) = false;
  // Whether there is an outage, or late copies of which nothing is known, for a look without
  // the mutex.
  std::atomic<bool> outage_ = false;
  std::atomic<bool> has_unknown_copies_ = false;
};

}  // namespace upload::volume
