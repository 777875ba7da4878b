// SPDX-License-Identifier: BSD-3-Clause
//
// Each request differs in what is asked, and in how its reply is read; all else is ask().

#include "volume/exchange.h"

#include <algorithm>
#include <utility>

#include "target/ask.h"

namespace upload::volume {

// Sends the request, and has `check` read the reply.
template <typename Check>
Status Exchange::ask(upstream::Lease& lease, const http::Request& request, const Asked& asked,
                     const Check& check) {
  const TimePoint start = core_.clock.now();
  Status status = target::ask(lease, request, check);
  // A request with a time of its own may take that.
  if (request.within == Duration::zero()) core_.note_attempt(start);
  if (!status.ok()) {
    MutexLock lock(core_.mutex);
    status =
        core_.forgotten_ticket.look_at(std::move(status), core_.clock.now(), core_.last_success);
  }
  if (status.ok()) {
    const size_t changes = asked.pieces == nullptr ? 1 : asked.pieces->size();
    if (asked.op) core_.stats.add(*asked.op, asked.bytes, changes, core_.clock.now() - start);
    core_.note_answer(start);
    core_.ticket_used = core_.clock.now();
    if (asked.purpose != Purpose::kRead) core_.last_success = core_.clock.now();
    core_.note_success();
    return status;
  }
  if (asked.op) core_.stats.add_failure(*asked.op);
  status = status.while_doing(asked.doing);
  apply_verdict(lease, asked.purpose, status, asked.pieces);
  return status.while_doing(core_.options.name);
}

void Exchange::apply_verdict(upstream::Lease& lease, Purpose purpose, const Status& failure,
                             const Pieces* pieces) noexcept {
  const Verdict what = verdict(failure.kind(), purpose);
  if (what.fate_unknown && pieces != nullptr) mode_.put_in_doubt(*pieces);
  if (what.retire) lease.retire(failure);
  if (mode_.latches(what.latch)) core_.latch(failure);
}

// --- Changes --------------------------------------------------------------

Status Exchange::send(upstream::Lease& lease, const Pieces& pieces, Purpose purpose, bool again) {
  const http::Request request = make_request(pieces, purpose);
  const auto op = again                   ? Stats::Op::kReplay
                  : request.parts.empty() ? Stats::Op::kZero
                                          : Stats::Op::kWrite;
  const Status status =
      ask(lease, request,
          {purpose, op, &pieces, range_of(pieces).length, "could not " + request.what},
          [&](const http::Reply& reply) {
            Status checked = core_.options.target->check_change(reply);
            // What a flush is to cover must be on a connection that can be flushed.
            if (checked.ok() && purpose == Purpose::kChange) return lease.retired();
            return checked;
          });
  if (!status.ok() || !again) return status;
  MutexLock lock(core_.mutex);
  core_.drain_progress.succeeded();
  return status;
}

http::Request Exchange::make_request(const Pieces& pieces, Purpose purpose) const {
  const target::Target& target = *core_.options.target;
  const bool stable = purpose == Purpose::kStableChange;
  const ByteRange range = range_of(pieces);
  const bool all_zero = std::all_of(pieces.begin(), pieces.end(),
                                    [](const Piece& piece) { return piece.data == nullptr; });
  if (all_zero && core_.options.capabilities.can_zero) return target.zero(range, stable);
  std::vector<http::BodyPart> parts;
  parts.reserve(pieces.size());
  for (const Piece& piece : pieces) parts.push_back({piece.data, piece.range.length});
  return target.write(range, std::move(parts), stable);
}

// --- Flush ----------------------------------------------------------------

Status Exchange::flush(upstream::Lease& lease, Purpose purpose) noexcept {
  const target::Target& target = *core_.options.target;
  const bool keeping = purpose == Purpose::kKeepAlive;
  const Asked asked{.purpose = purpose,
                    .op = keeping ? Stats::Op::kKeepAlive : Stats::Op::kFlush,
                    .doing = keeping ? "could not keep the connection alive" : "could not flush"};
  // Old servers have no flush, and any request keeps a connection alive.
  const Status status =
      core_.options.stable_on_reply()
          ? ask(lease, target.options(), asked,
                [&](const http::Reply& reply) { return target.read_options(reply).status(); })
          : ask(lease, target.flush(), asked,
                [&](const http::Reply& reply) { return target.check_change(reply); });
  if (!status.ok()) return status;
  MutexLock lock(core_.mutex);
  core_.unflushed.log.flushed(lease.id());
  core_.wake_waiting();  // there is room in the log
  return status;
}

// --- Questions ------------------------------------------------------------

Status Exchange::probe(upstream::Lease& lease) {
  const target::Target& target = *core_.options.target;
  return ask(lease, target.options(), {.purpose = Purpose::kRead, .doing = "could not OPTIONS"},
             [&](const http::Reply& reply) {
               Status status = target.read_options(reply).status();
               // It answers, whatever it thinks of this question.
               return status.kind() == Kind::kRejected ? Status() : status;
             });
}

Status Exchange::read(upstream::Lease& lease, ByteRange range, void* data) {
  const http::Request request = core_.options.target->read(range, data);
  return ask(
      lease, request,
      {Purpose::kRead, Stats::Op::kRead, nullptr, range.length, "could not " + request.what},
      [&](const http::Reply& reply) { return core_.options.target->check_read(reply, range); });
}

Result<std::vector<target::Extent>> Exchange::extents(upstream::Lease& lease) {
  const target::Target& target = *core_.options.target;
  const uint64_t size = core_.options.size;
  const auto reader = target.extents_reader(size);
  http::Request request = target.extents(*reader);
  request.within = target::kLongestList * core_.options.late;
  std::vector<target::Extent> list;
  const Status status = ask(lease, request,
                            {.purpose = Purpose::kRead,
                             .op = Stats::Op::kExtents,
                             .doing = "could not get the extents"},
                            [&](const http::Reply& reply) -> Status {
                              Result<std::vector<target::Extent>> read =
                                  target.read_extents(reply, *reader);
                              if (!read.ok()) return read.status();
                              list = std::move(read.value());
                              if (list.empty() || list.back().range.end() < size)
                                return {Kind::kMalformed, "the extents end before the disk does"};
                              return {};
                            });
  if (!status.ok()) return status;
  return list;
}

}  // namespace upload::volume
