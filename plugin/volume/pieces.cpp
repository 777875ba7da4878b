// SPDX-License-Identifier: BSD-3-Clause
//
// Cutting what is to be written into requests.

#include "volume/pieces.h"

#include <algorithm>

namespace upload::volume {

Pieces pieces_of(const std::vector<Change*>& batch) {
  Pieces pieces;
  pieces.reserve(batch.size());
  for (const Change* change : batch)
    pieces.push_back({change->range, change->data, change->sequence});
  return pieces;
}

ByteRange range_of(const std::vector<Change*>& batch) {
  const uint64_t offset = batch.front()->range.offset;
  return {offset, batch.back()->range.end() - offset};
}

ByteRange range_of(const Pieces& pieces) {
  const uint64_t offset = pieces.front().range.offset;
  return {offset, pieces.back().range.end() - offset};
}

namespace {

// Zeroes whose ends are parts of a block are cut there: the parts go as data.
Pieces cut_zeroes(const Pieces& pieces, uint64_t block) {
  Pieces cut;
  for (const Piece& piece : pieces) {
    const uint64_t end = piece.range.end();
    const uint64_t first_block = std::min(end, (piece.range.offset + block - 1) & ~(block - 1));
    const uint64_t last_block = std::max(first_block, end & ~(block - 1));
    if (piece.data != nullptr) {
      cut.push_back(piece);
      continue;
    }
    const uint64_t ends[] = {first_block, last_block, end};
    uint64_t at = piece.range.offset;
    for (const uint64_t each : ends) {
      if (each > at) cut.push_back({{at, each - at}, nullptr, piece.sequence});
      at = each;
    }
  }
  return cut;
}

}  // namespace

std::vector<Pieces> split(const Pieces& pieces, const BatchLimits& limits) {
  std::vector<Pieces> requests;
  const auto is_zero = [&](const Piece& piece) {
    return piece.data == nullptr && !limits.zero_is_data &&
           blocks_of(piece.range, limits.block) == piece.range;
  };
  const auto goes_with = [&](const Pieces& request, const Piece& piece) {
    const uint64_t most = is_zero(piece) ? limits.max_zero : limits.max_request;
    const uint64_t offset = request.front().range.offset;
    return request.back().range.end() == piece.range.offset &&
           is_zero(request.back()) == is_zero(piece) &&
           blocks_of({offset, piece.range.end() - offset}, limits.block).length <= most;
  };
  for (const Piece& piece : cut_zeroes(pieces, limits.block)) {
    if (requests.empty() || !goes_with(requests.back(), piece)) requests.emplace_back();
    requests.back().push_back(piece);
  }
  return requests;
}

}  // namespace upload::volume
