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
  uint64_t total = 0;
  for (const Piece& piece : pieces) {
    const uint64_t most = is_zero(piece) ? limits.max_zero : limits.max_request;
    if (requests.empty() || requests.back().back().range.end() != piece.range.offset ||
        is_zero(requests.back().back()) != is_zero(piece) || total + piece.range.length > most) {
      requests.emplace_back();
      total = 0;
    }
    total += piece.range.length;
    requests.back().push_back(piece);
  }
  return requests;
}

}  // namespace upload::volume
