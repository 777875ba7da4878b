// SPDX-License-Identifier: BSD-3-Clause
//
// Volume: one remote disk, and the data path of everything done to it.
//
// Promises, to NBD clients:
//   - flush() succeeds only when every change that was acknowledged before it
//     was called is stable (invariant 5); with spool_local, when it is stable
//     or on the local disk;
//   - when a change that was acknowledged may be lost, an error latches, and
//     every later request fails with it (invariants 2, 4, 6); with a replay
//     log it is sent again first, and requests wait meanwhile; with a spool,
//     changes are kept on disk meanwhile;
//   - for overlapping changes the order of acknowledgement is the order on
//     the server (invariant 7); a change whose fate is unknown keeps others
//     that overlap it from the server.
//
// Where it is: the path of a change is in volume.cpp, the others' in reads.cpp
// and flush.cpp; what failures mean, in failures.cpp; what is done about them
// with a replay log, in recovery.cpp, and with a spool, in spooling.cpp; what
// always holds, in check.cpp.
//
// Thread safe: each method blocks its caller, and any number of threads call.

#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/stats.h"
#include "base/thread.h"
#include "journal/replay_log.h"
#include "journal/spool.h"
#include "journal/spool_index.h"
#include "pool/pool.h"
#include "target/target.h"
#include "volume/change_queue.h"
#include "volume/late_copies.h"
#include "volume/retry.h"

namespace upload::volume {

struct VolumeOptions {
  std::string name;  // for error texts; no secret in it
  std::shared_ptr<const target::Target> target;
  target::Capabilities capabilities;
  uint64_t size = 0;  // bytes
  BatchLimits limits;
  uint64_t replay = 0;  // bytes for the replay log; 0: none
  // With a replay log: how long to try again before the error latches; with
  // a spool: how long to wait for a server that takes nothing.
  Duration retry_time = std::chrono::seconds(300);
  // With a replay log: how long a ticket that is denied after the loss of a
  // connection is waited for. A server that was restarted may know its tickets
  // only after somebody has told it.
  Duration denied_wait{0};
  // How long a server that is alive may take to apply a request whose
  // connection was lost.
  Duration late = std::chrono::seconds(60);
  // No attempt at a request takes longer, but where bytes move.
  Duration longest_attempt = std::chrono::seconds(130);
  // With a replay log: where to keep changes during an outage; null: nowhere.
  std::shared_ptr<journal::Spool> spool;
  uint64_t spool_size = UINT64_MAX;  // bytes, at least `replay`
  bool spool_local = false;          // what is in the spool counts as flushed
  // An earlier process may have requests under way, of any changes.
  bool unclean_start = false;
};

using Extents = std::shared_ptr<const std::vector<target::Extent>>;

class Volume final : public pool::PoolClient, private pool::LeaseWaiter {
 public:
  // `pool`, `clock` and `stats` outlive the volume.
  Volume(VolumeOptions options, pool::Pool& pool, Clock& clock, Stats& stats);
  // No request is under way. After request_stop() and join().
  ~Volume() override;

  // Until what was left in the spool by an earlier run is on the server.
  Status wait_for_leftovers() EXCLUDES(mutex_);
  // Until the spool is empty, or the server has taken nothing for so long.
  void wait_for_spool(Duration patience) EXCLUDES(mutex_);
  // Requests wait for a server that does not answer.
  [[nodiscard]] bool server_is_away() EXCLUDES(mutex_);
  // request_stop(), and says why: what waits for the server fails.
  void give_up() EXCLUDES(mutex_);
  // Ends waits for the server to come back; join() after Pool::close().
  void request_stop() EXCLUDES(mutex_);
  // Says what is left in the spool.
  void join() EXCLUDES(mutex_);
  // Until when the server may apply requests that have failed; kUnknown of
  // LateCopies: it has not answered since. Nothing: there are none.
  [[nodiscard]] std::optional<TimePoint> late_copies_may_come() EXCLUDES(mutex_);
  // The server has answered a request that began then, and so is alive.
  void note_answer(TimePoint began) EXCLUDES(mutex_);
  // False: there is no spool to tell the next process that this one may have
  // requests under way.
  bool keep_spool() EXCLUDES(mutex_);

  [[nodiscard]] uint64_t size() const { return options_.size; }
  [[nodiscard]] const target::Capabilities& capabilities() const {
    return options_.capabilities;
  }

  // Ranges are within size() and not empty. `fua`: returns when stable.
  Status write(ByteRange range, const void* data, bool fua) EXCLUDES(mutex_);
  Status zero(ByteRange range, bool fua) EXCLUDES(mutex_);
  Status read(ByteRange range, void* data) EXCLUDES(mutex_);
  Status flush() EXCLUDES(mutex_);
  // Of the whole volume; they cover size() exactly.
  Result<Extents> extents() EXCLUDES(mutex_);

  void connection_lost(http::ConnectionId id, const Status& why) override EXCLUDES(mutex_);
  void keep_alive(pool::Lease& lease) override EXCLUDES(mutex_);

  // Asserts what holds between the parts, if `held` is the mutex that guards them; the
  // caller has it. For the simulation.
  void check(const Mutex& held) const NO_THREAD_SAFETY_ANALYSIS;
  // Asserts that nobody waits for what is so already. No thread runs, nor can run.
  void check_waits() const NO_THREAD_SAFETY_ANALYSIS;

 private:
  enum class Purpose { kRead, kChange, kStableChange, kFlush, kKeepAlive };
  // Where changes go; drawn in docs/architecture.md.
  enum class State { kDirect, kSpooling, kDraining };
  // What the recovery thread, and the spool's, do next.
  enum class Recovery { kStop, kReplay, kMakeRoom };
  enum class Spooling { kStop, kMove, kDrain, kDropDead, kEnd };
  enum class Next { kTryAgain, kGiveUp, kSpool };
  // Part of a request: data, or null for zeroes, that a change is to write.
  struct Piece {
    ByteRange range;
    const void* data;
    uint64_t change;  // Change::sequence
  };
  using Pieces = std::vector<Piece>;

  // The path of a change, in its order (volume.cpp).
  Status commit(Change& change) noexcept EXCLUDES(mutex_);
  Status admit(Change& change) REQUIRES(mutex_);
  [[nodiscard]] bool has_room_for(uint64_t bytes) const REQUIRES(mutex_);
  bool reserve(Change& change) REQUIRES(mutex_);
  void wait_for_turn(Change& change) REQUIRES(mutex_);
  void request_leases() REQUIRES(mutex_);
  void granted(Result<pool::Lease> lease) noexcept override EXCLUDES(mutex_);
  void assign(Result<pool::Lease> lease) REQUIRES(mutex_);
  bool send_batch(Change& leader) EXCLUDES(mutex_);
  [[nodiscard]] bool make_records(const std::vector<Change*>& batch,
                                  std::vector<journal::RecordPtr>& records);
  std::optional<Status> lead(std::optional<pool::Lease>& lease, const Change& leader)
      EXCLUDES(mutex_);
  Status attempt(pool::Lease& lease, const Change& leader) EXCLUDES(mutex_);
  Status send(pool::Lease& lease, const Pieces& pieces, bool stable, bool again)
      EXCLUDES(mutex_);
  [[nodiscard]] static Pieces pieces_of(const std::vector<Change*>& batch);
  [[nodiscard]] static ByteRange range_of(const std::vector<Change*>& batch);
  [[nodiscard]] static ByteRange range_of(const Pieces& pieces);
  http::Request make_request(const Pieces& pieces, bool stable) const;
  void acknowledge(const std::vector<Change*>& batch, http::ConnectionId id,
                   std::vector<journal::RecordPtr> records) REQUIRES(mutex_);
  void finish(const std::vector<Change*>& changes, const Status& result) REQUIRES(mutex_);

  // reads.cpp
  Status read_once(ByteRange range, void* data, bool& again) EXCLUDES(mutex_);
  Status read_from_server(ByteRange range, void* data) EXCLUDES(mutex_);
  Status read_from_log(const journal::Slice& slice, std::byte* to, bool& again)
      EXCLUDES(mutex_);
  Result<bool> read_row(const journal::Slice& slice, std::byte* to) EXCLUDES(mutex_);
  Result<Extents> extents_from_server() EXCLUDES(mutex_);

  // Who waits for what (flush.cpp).
  void wait_for(CondVar& reason, TimePoint until) REQUIRES(mutex_);
  void wake_all() REQUIRES(mutex_);
  void wake_waiting() REQUIRES(mutex_);
  void wake_workers() REQUIRES(mutex_);

  // flush.cpp
  [[nodiscard]] bool must_wait(uint64_t last) const REQUIRES(mutex_);
  Result<std::vector<http::ConnectionId>> connections_to_flush(uint64_t last, TimePoint start)
      EXCLUDES(mutex_);
  Status check_spool() EXCLUDES(mutex_);
  Status flush_connection(http::ConnectionId id) EXCLUDES(mutex_);
  Status ask_flush(pool::Lease& lease) EXCLUDES(mutex_);
  Status ask_options(pool::Lease& lease) EXCLUDES(mutex_);
  Status flush_lease(pool::Lease& lease, Purpose purpose) noexcept EXCLUDES(mutex_);

  // What failures mean (failures.cpp).
  void judge(pool::Lease& lease, Purpose purpose, const Status& failure) noexcept
      EXCLUDES(mutex_);
  Status unless_forgotten(Status failure) EXCLUDES(mutex_);
  void latch(const Status& why) EXCLUDES(mutex_);
  void set_latched(const Status& status) REQUIRES(mutex_);
  Status latched() const EXCLUDES(mutex_);
  Status latched_or(const Status& status) const EXCLUDES(mutex_);
  void shun(const Pieces& pieces) EXCLUDES(mutex_);
  std::optional<TimePoint> in_doubt(const Pieces& pieces) REQUIRES(mutex_);

  // Replay (recovery.cpp).
  Next wait_to_retry(Retry& retry, const Status& failure, Purpose purpose) EXCLUDES(mutex_);
  void retried_in_vain(const Retry& retry, const Status& failure) EXCLUDES(mutex_);
  [[nodiscard]] Retry make_retry() const;
  void note_outage(const Status& why) EXCLUDES(mutex_);
  void note_success() EXCLUDES(mutex_);
  void recover() EXCLUDES(mutex_);
  Recovery wait_for_recovery() EXCLUDES(mutex_);
  void make_room() EXCLUDES(mutex_);
  void replay_all() EXCLUDES(mutex_);
  bool has_more_to_replay() EXCLUDES(mutex_);
  std::vector<ByteRange> next_orphans() REQUIRES(mutex_);
  Status replay() EXCLUDES(mutex_);
  Status send_again(std::span<const Pieces> runs) EXCLUDES(mutex_);
  Result<size_t> send_some(std::span<const Pieces> runs) EXCLUDES(mutex_);
  Result<size_t> send_stable(std::span<const Pieces> runs) EXCLUDES(mutex_);
  bool hold(std::list<Change>& changes) REQUIRES(mutex_);
  void let_go(std::list<Change>& changes) REQUIRES(mutex_);
  std::vector<Pieces> runs_of(const Pieces& pieces) const;

  // The spool (spooling.cpp).
  void run_spool() EXCLUDES(mutex_);
  Spooling wait_for_spooling() EXCLUDES(mutex_);
  [[nodiscard]] std::optional<Spooling> next_spooling() const REQUIRES(mutex_);
  [[nodiscard]] bool belongs_into_spool(ByteRange range) const REQUIRES(mutex_);
  void lead_append() REQUIRES(mutex_);
  journal::SpoolContent make_row(ByteRange range, uint64_t change, const void* data)
      REQUIRES(mutex_);
  void latch_unless_full(const Status& failure) EXCLUDES(mutex_);
  void append(const Change& leader) EXCLUDES(mutex_);
  void add_row(const journal::SpoolRow& row) REQUIRES(mutex_);
  [[nodiscard]] bool is_seen(const journal::SpoolRow& row) const REQUIRES(mutex_);
  void enter_spooling(const Status& why, TimePoint until) EXCLUDES(mutex_);
  void move_to_spool() EXCLUDES(mutex_);
  void drain() EXCLUDES(mutex_);
  void drain_failed(const Status& failure) EXCLUDES(mutex_);
  std::vector<journal::Slice> slices_to_send(std::vector<journal::SpoolRow>& rows)
      REQUIRES(mutex_);
  Status probe() EXCLUDES(mutex_);
  bool hold_rows(const std::vector<journal::SpoolRow>& rows, std::list<Change>& held)
      REQUIRES(mutex_);
  Status send_rows(const std::vector<journal::Slice>& slices) EXCLUDES(mutex_);
  bool drop_rows(const std::vector<journal::SpoolRow>& rows) EXCLUDES(mutex_);
  void drained(const std::vector<journal::SpoolRow>& rows) EXCLUDES(mutex_);
  void drop_dead_rows() EXCLUDES(mutex_);
  [[nodiscard]] bool has_dead_rows() const REQUIRES(mutex_);
  void end_spooling() EXCLUDES(mutex_);
  void take_leftovers() REQUIRES(mutex_);
  [[nodiscard]] bool spool_is_busy() const REQUIRES(mutex_);
  void note_late_waking(TimePoint planned) REQUIRES(mutex_);
  void note_long_attempt(TimePoint began) EXCLUDES(mutex_);
  void note_draining_fails() REQUIRES(mutex_);
  void note_draining_works() EXCLUDES(mutex_);
  void forget_draining_fails() REQUIRES(mutex_);
  [[nodiscard]] TimePoint patience(TimePoint start) const REQUIRES(mutex_);
  [[nodiscard]] Status out_of_patience(const char* doing) const REQUIRES(mutex_);
  [[nodiscard]] std::string left_in_spool() const REQUIRES(mutex_);
  [[nodiscard]] std::string not_on_server() const REQUIRES(mutex_);

  // The server's acknowledgement means stable, with FUA or without.
  [[nodiscard]] bool always_stable() const {
    return capabilities().durability == target::Durability::kOnReply;
  }
  [[nodiscard]] bool replays() const { return options_.replay > 0; }
  [[nodiscard]] bool spools() const { return options_.spool != nullptr; }

  // Constant after construction.
  const VolumeOptions options_;
  pool::Pool& pool_;
  Clock& clock_;
  Stats& stats_;
  const std::shared_ptr<journal::Memory> log_memory_;

  // Their own synchronisation: a look at outage_since_, and at
  // late_copies_.any_unknown(), without the mutex.
  std::atomic<bool> outage_ = false;
  std::atomic<bool> has_unknown_copies_ = false;
  // When a change or a flush has last succeeded.
  std::atomic<TimePoint> last_success_;

  // The whole list of extents has to come in so many times the time-out: a server may need
  // long for it, but one that sends it drop by drop must not keep the process from its end.
  static constexpr int kLongestList = 5;
  // Held while the server is asked for the extents; taken before mutex_.
  Mutex extents_mutex_;
  // Taken before the pool's mutex.
  mutable Mutex mutex_;
  ChangeQueue queue_ GUARDED_BY(mutex_);
  // Waits in the pool's line on behalf of ready changes.
  size_t requested_ GUARDED_BY(mutex_) = 0;
  std::optional<Status> latched_ GUARDED_BY(mutex_);
  LateCopies late_copies_ GUARDED_BY(mutex_);
  // Until the next change.
  Extents extents_ GUARDED_BY(mutex_);
  uint64_t changes_ GUARDED_BY(mutex_) = 0;
  // Without replay it only knows which connections are dirty.
  journal::ReplayLog log_ GUARDED_BY(mutex_);
  // A change waits for memory.
  bool room_wanted_ GUARDED_BY(mutex_) = false;
  // Those who replay take orphans from here on, so that no two take the same.
  uint64_t replay_from_ GUARDED_BY(mutex_) = 0;
  // Runs that are sent over one connection before it is flushed.
  static constexpr size_t kMostReplayed = 256;
  size_t most_replayed_ GUARDED_BY(mutex_) = kMostReplayed / 8;
  // What a thread holds the ranges of, about.
  static constexpr uint64_t kMostReplayedBytes = uint64_t{16} << 20;
  // Orphaned segments that are worth another thread.
  static constexpr size_t kWorthAThread = 16;
  std::optional<TimePoint> outage_since_ GUARDED_BY(mutex_);
  // When a connection was last lost, and when the ticket was denied for the
  // first time since a change or a flush has succeeded, or the server could not be
  // reached.
  std::optional<TimePoint> connection_lost_ GUARDED_BY(mutex_);
  std::optional<TimePoint> denied_since_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool told_what_is_left_ GUARDED_BY(mutex_) = false;
  // When a wait was last found to have ended much too late: the process had
  // been stopped, and whoever waits gets another round.
  TimePoint woken_late_ GUARDED_BY(mutex_) = TimePoint::min();
  // There may be work for the recovery thread, and for the spool's.
  CondVar recovery_work_;
  CondVar spool_work_;
  // An error, the end, another state, or more is known of late copies.
  CondVar changed_;
  // What is waited for besides, with who waits: an acknowledgement wakes them
  // only if one of them can go on (wake_waiting).
  // What a flush waits for, to be stable: the last sequence that each covers.
  CondVar stable_;
  std::multiset<uint64_t> waiting_flushes_ GUARDED_BY(mutex_);
  bool waits_for_spool_ GUARDED_BY(mutex_) = false;
  // Room in the log or the spool: the bytes of data that each wants to add.
  CondVar room_;
  std::multiset<uint64_t> waiting_for_room_ GUARDED_BY(mutex_);

  // Not used without a spool. Of every byte that a row of the spool is about
  // the newest content is in the spool: a change that overlaps a row becomes
  // a row too.
  State state_ GUARDED_BY(mutex_) = State::kDirect;
  journal::SpoolIndex rows_ GUARDED_BY(mutex_);
  uint64_t last_row_ GUARDED_BY(mutex_) = 0;
  // Rows of which newer ones hide everything.
  std::vector<uint64_t> dead_rows_ GUARDED_BY(mutex_);
  // Of rows up to that sequence some bytes may be on the server already, and no longer in
  // the log. They go in their order only: what they hide, newer rows need not hide.
  uint64_t partly_sent_ GUARDED_BY(mutex_) = 0;
  bool appending_ GUARDED_BY(mutex_) = false;
  uint64_t reserved_room_ GUARDED_BY(mutex_) = 0;
  bool has_leftovers_ GUARDED_BY(mutex_) = false;
  // Since when every attempt to send something from the spool has failed;
  // nothing: none has since the server last took something. And how many.
  std::optional<TimePoint> failing_since_ GUARDED_BY(mutex_);
  unsigned failed_attempts_ GUARDED_BY(mutex_) = 0;
  // Until then it takes nothing because this volume does not send: late copies
  // may come.
  TimePoint held_back_until_ GUARDED_BY(mutex_) = TimePoint::min();
  // Not before that; after failures.
  TimePoint next_move_ GUARDED_BY(mutex_);
  TimePoint next_drain_ GUARDED_BY(mutex_);
  // Rows that go to the server, and are dropped, together.
  static constexpr size_t kMostRows = 256;
  size_t most_rows_ GUARDED_BY(mutex_) = kMostRows;
  // For the thread of the spool only.
  std::optional<Retry> drain_retry_;

  // Last: they use the others.
  Thread recovery_;
  Thread spool_;
};

}  // namespace upload::volume
