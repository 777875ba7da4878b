// SPDX-License-Identifier: BSD-3-Clause
//
// Volume: one remote disk, put together of the parts that do the work.
//
// Promises, to NBD clients (the numbers are those of the invariants in docs/architecture.md):
//   - flush() succeeds only when every change that was acknowledged before it was called is
//     stable (invariant 5); with spool_local, when it is stable or on the local disk;
//   - when a change that was acknowledged may be lost, an error latches, and every later
//     request fails with it (2, 4, 6); with a replay log it is sent again first, requests
//     wait meanwhile, and what can't be repaired within the retry time latches; with a
//     spool, changes are kept on disk meanwhile;
//   - for overlapping changes the order of acknowledgement is the order on the server
//     (invariant 7); a change whose fate is unknown keeps others that overlap it from the
//     server.
//
// Thread safe: each method blocks its caller, and any number of threads call.

#pragma once

#include <memory>
#include <optional>

#include "volume/core.h"
#include "volume/delivery.h"
#include "volume/exchange.h"
#include "volume/fallback.h"
#include "volume/flusher.h"
#include "volume/mode.h"
#include "volume/options.h"
#include "volume/reader.h"
#include "volume/recovery.h"
#include "volume/spooler.h"
#include "volume/write_back.h"
#include "volume/writer.h"

namespace upload::volume {

class Volume final : public upstream::PoolClient {
 public:
  // `pool`, `clock` and `stats` outlive the volume.
  Volume(VolumeOptions options, upstream::Pool& pool, Clock& clock, Stats& stats);
  // No request is under way. After request_stop() and join().
  ~Volume() override;

  [[nodiscard]] uint64_t size() const { return core_.options.size; }
  [[nodiscard]] const target::Capabilities& capabilities() const {
    return core_.options.capabilities;
  }

  // Ranges are within size() and not empty. `fua`: returns when stable.
  Status write(ByteRange range, const void* data, bool fua) {
    return writer_.write(range, data, fua);
  }
  Status zero(ByteRange range, bool fua) { return writer_.zero(range, fua); }
  Status read(ByteRange range, void* data) { return reader_.read(range, data); }
  Status flush() { return flusher_.flush(); }
  Result<Extents> extents() { return reader_.extents(); }
  // Asks the server once whether it takes the ticket and the credentials.
  Status validate() { return reader_.probe(); }

  void connection_lost(ConnectionId id, const Status& why) override;
  [[nodiscard]] bool is_dirty(ConnectionId id) const override;
  [[nodiscard]] TimePoint ticket_used() const override { return core_.ticket_used; }
  void keep_alive(upstream::Lease& lease) override;

  // Until what was left in the spool by an earlier run is on the server.
  Status wait_for_leftovers() { return spooler_ ? spooler_->wait_for_leftovers() : Status(); }
  // Until all that was acknowledged was sent, or the volume has given up.
  void wait_until_sent() {
    if (write_back_) write_back_->wait_until_sent();
  }
  // Until the spool is empty, or the server has taken nothing for so long.
  void wait_for_spool(Duration give_up_after) {
    if (spooler_) spooler_->wait_until_empty(give_up_after);
  }
  // Requests wait for a server that does not answer.
  [[nodiscard]] bool server_is_away();
  // request_stop(), and says why: what waits for the server fails.
  void give_up();
  // Ends waits for the server to come back; join() after Pool::close().
  void request_stop() { core_.stop(); }
  // Says what is left in the spool.
  void join();
  // The claim is lost: every later request fails with that.
  void claim_lost(const Status& why) { core_.latch(why); }
  [[nodiscard]] VolumeFigures figures() const { return core_.figures(); }
  // What has become of the disk, after join().
  enum class Outcome {
    kUntouched,  // this process has changed nothing
    kFlushed,    // a client's flush has made stable all that was acknowledged, and nothing failed
    kUnfinished,  // anything else
  };
  [[nodiscard]] Outcome outcome();
  // Until when the server may apply requests that have failed; nothing: there are none.
  // LateCopies::kUnknown: it has not answered since.
  [[nodiscard]] std::optional<TimePoint> late_copies_may_come();
  // The server has answered a request that began then, and so is alive.
  void note_answer(TimePoint began) { core_.note_answer(began); }
  // False: there is no spool to tell the next process of requests under way.
  bool keep_spool() {
    if (spooler_) spooler_->keep();
    return spooler_ != nullptr;
  }

  // Core's, if `held` is its mutex, which the caller has. For the simulation.
  void check(const Mutex& held) const NO_THREAD_SAFETY_ANALYSIS;
  void check_waits() const NO_THREAD_SAFETY_ANALYSIS;

 private:
  [[nodiscard]] Fallback& fallback() {
    return spooler_ ? static_cast<Fallback&>(*spooler_) : no_fallback_;
  }

  Core core_;
  NoFallback no_fallback_;
  std::unique_ptr<Spooler> spooler_;  // with a spool
  std::unique_ptr<Mode> mode_;
  Exchange exchange_;
  Flusher flusher_;
  Delivery delivery_;
  std::unique_ptr<WriteBack> write_back_;  // with write-back

  Writer writer_;
  Reader reader_;
  std::unique_ptr<Recovery> recovery_;  // with a replay log
};

}  // namespace upload::volume
