// SPDX-License-Identifier: BSD-3-Clause
//
// Each request differs in what is asked, and in how its reply is read; all else is ask().

#include "volume/exchange.h"

#include <algorithm>
#include <utility>

#include "target/ask.h"

namespace upload::volume {

// Sends the request, and has `check` read the reply. Neither without the claim (invariant 12).
template <typename Check>
Status Exchange::ask(upstream::Lease& lease, http::Request request, const Asked& asked,
                     const Check& check) {
  const TimePoint start = core_.clock.now();
  request.fence = core_.options.fence;
  Status status = core_.options.check_fence();
  if (status.ok()) status = target::ask(lease, request, check);
  if (Status fenced = core_.options.check_fence(); !fenced.ok()) status = fenced;
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
  if (asked.op) core_.stats.add_failure(*asked.op, status.kind());
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
  Edges edges;
  if (Status status = read_edges(lease, pieces, edges); !status.ok()) return status;
  http::Request request = make_request(pieces, edges, purpose);
  const auto op = again                   ? Stats::Op::kReplay
                  : request.parts.empty() ? Stats::Op::kZero
                                          : Stats::Op::kWrite;
  std::string doing = "could not " + request.what;
  const Status status = ask(lease, std::move(request),
                            {purpose, op, &pieces, range_of(pieces).length, std::move(doing)},
                            [&](const http::Reply& reply) {
                              Status checked = core_.options.target->check_change(reply);
                              // What a flush is to cover must be on a connection that can be flushed.
                              if (checked.ok() && purpose == Purpose::kChange)
                                return lease.retired();
                              return checked;
                            });
  if (!status.ok() || !again) return status;
  MutexLock lock(core_.mutex);
  core_.drain_progress.succeeded();
  return status;
}

// Of a request that begins or ends within a block of the server's: what stands around it there. The
// caller has the blocks to himself (ChangeQueue), so it is the same when they are written.
Status Exchange::read_edges(upstream::Lease& lease, const Pieces& pieces, Edges& edges) {
  const ByteRange range = range_of(pieces);
  const ByteRange blocks = blocks_of(range, core_.options.limits.block);
  edges.before.resize(range.offset - blocks.offset);
  edges.after.resize(blocks.end() - range.end());
  const auto read_edge = [&](uint64_t offset, std::vector<std::byte>& edge) {
    if (edge.empty()) return Status();
    if (Status status = read(lease, {offset, edge.size()}, edge.data()); !status.ok())
      return status;
    // A reply that was the last of its connection is no reason to doubt what has not been sent.
    lease.replace_if_closed();
    return Status();
  };
  if (Status status = read_edge(blocks.offset, edges.before); !status.ok()) return status;
  return read_edge(range.end(), edges.after);
}

http::Request Exchange::make_request(const Pieces& pieces, const Edges& edges,
                                     Purpose purpose) const {
  const target::Target& target = *core_.options.target;
  const bool stable = purpose == Purpose::kStableChange;
  const ByteRange range = blocks_of(range_of(pieces), core_.options.limits.block);
  const bool whole_blocks = edges.before.empty() && edges.after.empty();
  const bool all_zero = std::all_of(pieces.begin(), pieces.end(),
                                    [](const Piece& piece) { return piece.data == nullptr; });
  if (all_zero && whole_blocks && core_.options.capabilities.can_zero)
    return target.zero(range, stable);
  std::vector<http::BodyPart> parts;
  parts.reserve(pieces.size() + 2);
  if (!edges.before.empty()) parts.push_back({edges.before.data(), edges.before.size()});
  for (const Piece& piece : pieces) parts.push_back({piece.data, piece.range.length});
  if (!edges.after.empty()) parts.push_back({edges.after.data(), edges.after.size()});
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
          ? ask(lease, target.inquire(), asked,
                [&](const http::Reply& reply) { return target.read_offer(reply).status(); })
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
  const http::Request question = target.inquire();
  return ask(lease, question, {.purpose = Purpose::kRead, .doing = "could not " + question.what},
             [&](const http::Reply& reply) {
               Status status = target.read_offer(reply).status();
               // It answers, whatever it thinks of this question.
               return status.kind() == Kind::kRejected ? Status() : status;
             });
}

Status Exchange::read(upstream::Lease& lease, ByteRange range, void* data) {
  http::Request request = core_.options.target->read(range, data);
  std::string doing = "could not " + request.what;
  return ask(
      lease, std::move(request),
      {Purpose::kRead, Stats::Op::kRead, nullptr, range.length, std::move(doing)},
      [&](const http::Reply& reply) { return core_.options.target->check_read(reply, range); });
}

Result<std::vector<target::Extent>> Exchange::extents(upstream::Lease& lease) {
  const uint64_t size = core_.options.size;
  Result<std::vector<target::Extent>> list =
      target::ask_extents(*core_.options.target, size, target::kLongestList * core_.options.late,
                          [&](const http::Request& request, const auto& read) {
                            return ask(lease, request,
                                       {.purpose = Purpose::kRead,
                                        .op = Stats::Op::kExtents,
                                        .doing = "could not get the extents"},
                                       read);
                          });
  if (!list.ok() || (!list.value().empty() && list.value().back().range.end() >= size))
    return list;
  const Status status(Kind::kMalformed,
                      "could not get the extents: they end before the disk does");
  apply_verdict(lease, Purpose::kRead, status);
  return status.while_doing(core_.options.name);
}

}  // namespace upload::volume
