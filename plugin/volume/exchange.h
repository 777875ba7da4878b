// SPDX-License-Identifier: BSD-3-Clause
//
// Exchange: one request on one lease, and all that follows from its reply, or from there
// being none: statistics, the verdict, and what the volume learns of its server. Every
// request of a volume goes through here.
//
// When a method returns a failure, the lease is retired where it has to be; the volume's
// error has latched where it has to; and the range of a change whose fate is unknown takes
// no other change.
//
// A retired connection dies when the lease is given back (Lease::give_back, also by its
// destructor): the pool closes it and tells every volume (Mode::connection_lost). What it had
// carried before, acknowledged and unflushed, then latches the error, or becomes orphans. So
// whoever gets a failure from here gives the lease back before anybody is told.
//
// No state of its own. Thread safe; a lease is one thread's.

#pragma once

#include <optional>
#include <vector>

#include "base/byte_range.h"
#include "base/stats.h"
#include "base/status.h"
#include "http/message.h"
#include "target/target.h"
#include "upstream/lease.h"
#include "volume/core.h"
#include "volume/mode.h"
#include "volume/pieces.h"
#include "volume/verdict.h"

namespace upload::volume {

class Exchange {
 public:
  // Both outlive the exchange.
  Exchange(Core& core, Mode& mode) : core_(core), mode_(mode) {}

  // One request for all the pieces, which are adjacent. `purpose`: kChange or kStableChange.
  Status change(upstream::Lease& lease, const Pieces& pieces, Purpose purpose)
      EXCLUDES(core_.mutex) {
    return send(lease, pieces, purpose, false);
  }
  // The same of what has been acknowledged before.
  Status resend(upstream::Lease& lease, const Pieces& pieces, Purpose purpose)
      EXCLUDES(core_.mutex) {
    return send(lease, pieces, purpose, true);
  }
  // What the connection has carried is stable afterwards. `purpose`: kFlush or kKeepAlive.
  Status flush(upstream::Lease& lease, Purpose purpose) noexcept EXCLUDES(core_.mutex);
  // Does the server answer, whatever it says?
  Status probe(upstream::Lease& lease) EXCLUDES(core_.mutex);
  Status read(upstream::Lease& lease, ByteRange range, void* data) EXCLUDES(core_.mutex);
  // Of the whole disk.
  Result<std::vector<target::Extent>> extents(upstream::Lease& lease) EXCLUDES(core_.mutex);

  // Does what the verdict on this failure says: retire, put in doubt, latch. For a failure of
  // this side, after the server was asked. `pieces`: of a change.
  void apply_verdict(upstream::Lease& lease, Purpose purpose, const Status& failure,
                     const Pieces* pieces = nullptr) noexcept EXCLUDES(core_.mutex);

 private:
  struct Asked {
    Purpose purpose;
    std::optional<Stats::Op> op{};
    const Pieces* pieces = nullptr;
    uint64_t bytes = 0;
    // What is put before a failure.
    std::string doing{};
  };
  template <typename Check>
  Status ask(upstream::Lease& lease, http::Request request, const Asked& asked,
             const Check& check) EXCLUDES(core_.mutex);
  Status send(upstream::Lease& lease, const Pieces& pieces, Purpose purpose, bool again)
      EXCLUDES(core_.mutex);
  // Of the blocks that a request touches: what it does not change.
  struct Edges {
    std::vector<std::byte> before;
    std::vector<std::byte> after;
  };
  Status read_edges(upstream::Lease& lease, const Pieces& pieces, Edges& edges)
      EXCLUDES(core_.mutex);
  [[nodiscard]] http::Request make_request(const Pieces& pieces, const Edges& edges,
                                           Purpose purpose) const;

  Core& core_;
  Mode& mode_;
};

}  // namespace upload::volume
