// SPDX-License-Identifier: BSD-3-Clause
//
// Cutting what is to be written into requests.

#include "volume/pieces.h"

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

std::vector<Pieces> split(const Pieces& pieces, const BatchLimits& limits) {
  std::vector<Pieces> requests;
  const auto is_zero = [&](const Piece& piece) {
    return piece.data == nullptr && !limits.zero_is_data;
  };
  const auto goes_with = [&](const Pieces& request, const Piece& piece) {
    const uint64_t most = is_zero(piece) ? limits.max_zero : limits.max_request;
    const uint64_t offset = request.front().range.offset;
    return request.back().range.end() == piece.range.offset &&
           is_zero(request.back()) == is_zero(piece) &&
           blocks_of({offset, piece.range.end() - offset}, limits.block).length <= most;
  };
  for (const Piece& piece : pieces) {
    if (requests.empty() || !goes_with(requests.back(), piece)) requests.emplace_back();
    requests.back().push_back(piece);
  }
  return requests;
}

}  // namespace upload::volume
