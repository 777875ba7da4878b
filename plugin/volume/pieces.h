// SPDX-License-Identifier: BSD-3-Clause
//
// Pieces: what one request is to write, as a list of stretches of data and of zeroes, each
// of one change. The data belongs to others: to the threads of NBD clients, or to records
// of the log. Values.

#pragma once

#include <cstdint>
#include <vector>

#include "base/byte_range.h"
#include "journal/replay_log.h"
#include "volume/change_queue.h"

namespace upload::volume {

struct Piece {
  ByteRange range;
  const void* data;   // range.length bytes; null: zeroes
  uint64_t sequence;  // of the change
};

// In the order of their offsets, and not empty.
using Pieces = std::vector<Piece>;

[[nodiscard]] Pieces pieces_of(const std::vector<Change*>& batch);
// Of what is in memory; the slices keep it there.
[[nodiscard]] Pieces pieces_of(const std::vector<journal::Slice>& slices);
// Of what is adjacent.
[[nodiscard]] ByteRange range_of(const std::vector<Change*>& batch);
[[nodiscard]] ByteRange range_of(const Pieces& pieces);

// Cuts into requests: adjacent pieces of a kind go together, as far as the limits allow.
[[nodiscard]] std::vector<Pieces> split(const Pieces& pieces, const BatchLimits& limits);

}  // namespace upload::volume
