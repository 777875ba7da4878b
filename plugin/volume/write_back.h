// SPDX-License-Identifier: BSD-3-Clause
//
// WriteBack: changes are acknowledged once they are in the replay log, and sent by threads of the
// volume's. NBD promises nothing before a flush, so a client does not have to wait for the server.
//
//   accept     the client's thread: a copy into the log, as unsent
//   next_job   which of it is sent, and when
//   send       the sender's thread: a connection, then a run of adjacent changes, and its request
//              (Delivery); then the connection is dirty with it, like with any other change
//
// What keeps the invariants:
//   - who adds to the log, and who sends from it, has the range in the queue meanwhile: so what is
//     sent is the newest, and no two changes of the same bytes are under way (7);
//   - for a flush what is unsent is like an orphan: it waits for it to be sent, and then flushes
//     the connection that has carried it (5);
//   - what can't be sent latches, since it was acknowledged (2).
//
// When to send: a request that is as large as it may be goes at once; less goes if none is under
// way, or somebody waits for it. So requests are large where the source is fast or the server is
// slow, nothing ever waits for a timer, and the last of a copy is not held back.
//
// How large: as RequestSize has learned, up to a few requests of max-request; so much has waited
// where the server is slow. One of more than max-request is an attempt: what it fails with, whatever
// that is, means only that its data is still unsent. The same job sends it in smaller requests then,
// before anybody else has the range. When the log is half full a large one is stable with its own reply,
// which makes room without a flush; and where requests have become larger any of them is for which a flush
// waits, which then has one delay less to wait for.
//
// Which: the next after what was sent last, from the beginning again after the last. So each byte
// has its turn, and what a client writes in order goes in order.
//
// Thread safe.

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/byte_range.h"
#include "base/status.h"
#include "journal/replay_log.h"
#include "volume/change_queue.h"
#include "volume/core.h"
#include "volume/delivery.h"
#include "volume/pieces.h"
#include "volume/request_size.h"
#include "volume/senders.h"

namespace upload::volume {

class WriteBack final : public JobSource {
 public:
  // All outlive it.
  WriteBack(Core& core, Mode& mode, Delivery& delivery);

  // The change is admitted, with room in the log, and not in the queue yet. True: it is in the log,
  // or has failed, as its result says. False: it is in the queue, and belongs into the spool.
  bool accept(Change& change) noexcept EXCLUDES(core_.mutex);

  // Until nothing is unsent, or an error has latched, or the volume is to stop.
  void wait_until_sent() EXCLUDES(core_.mutex);

  Job next_job(TimePoint& not_before) override;
  bool has_another_job() override {
    core_.mutex.assert_held();
    return is_worth_sending();
  }

 private:
  void wait_for_range(Change& change) REQUIRES(core_.mutex);
  [[nodiscard]] bool is_worth_sending() const REQUIRES(core_.mutex);
  // What one job sends, and how.
  struct Request {
    std::vector<journal::Slice> slices;  // keep the content
    Pieces pieces;
    uint64_t left = 0;  // bytes that are not sent yet
    bool large = false;
    bool stable = false;
  };
  // What becomes of it: it is sent; it goes in smaller requests; it is not this job's any more, since
  // it belongs into the fallback, or an error has latched.
  enum class Next { kDone, kSmaller, kElsewhere };
  void send() noexcept EXCLUDES(core_.mutex);
  void send_smaller(Request& request) EXCLUDES(core_.mutex);
  Next deliver(Request& request, Result<upstream::Lease> connection) EXCLUDES(core_.mutex);
  [[nodiscard]] bool has_data(const Pieces& pieces) const;
  Request next_request(bool connected) REQUIRES(core_.mutex);
  Request request_of(std::vector<journal::Slice> slices, uint64_t most) REQUIRES(core_.mutex);
  std::vector<journal::Slice> next_run(uint64_t most) REQUIRES(core_.mutex);
  [[nodiscard]] uint64_t weight_of(const std::vector<journal::Slice>& run) const
      REQUIRES(core_.mutex);
  std::vector<journal::Slice> first_free_run(uint64_t from, uint64_t end, uint64_t most)
      REQUIRES(core_.mutex);
  void sent(Request& request, const upstream::Lease& lease) REQUIRES(core_.mutex);

  Core& core_;
  Mode& mode_;
  Delivery& delivery_;

  // Of the jobs those that have not chosen yet what to send; and what the others are sending, in
  // bytes.
  size_t choosing_ GUARDED_BY(core_.mutex) = 0;
  uint64_t under_way_ GUARDED_BY(core_.mutex) = 0;
  RequestSize size_ GUARDED_BY(core_.mutex);
  // The end of the run that was taken last.
  uint64_t next_ GUARDED_BY(core_.mutex) = 0;
};

}  // namespace upload::volume
