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

Pieces pieces_of(const std::vector<journal::Slice>& slices) {
  Pieces pieces;
  pieces.reserve(slices.size());
  for (const journal::Slice& slice : slices)
    pieces.push_back({slice.range, slice.record->at(slice.range.offset), slice.record->sequence});
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

// Small zeroes between data go along as data, with the data behind them.
template <typename IsZero>
std::vector<Pieces> with_small_zeroes(std::vector<Pieces> runs, const IsZero& is_zero,
                                      const BatchLimits& limits) {
  std::vector<Pieces> requests;
  const auto is_data = [&](const Pieces& run) { return !is_zero(run.front()); };
  const auto joins = [&](const Pieces& before, const Pieces& zeroes, const Pieces& after) {
    const ByteRange range{range_of(before).offset,
                          range_of(after).end() - range_of(before).offset};
    return is_data(before) && !is_data(zeroes) && is_data(after) &&
           range_of(before).end() == range_of(zeroes).offset &&
           range_of(zeroes).end() == range_of(after).offset &&
           range_of(zeroes).length <= limits.small_zero &&
           blocks_of(range, limits.block).length <= limits.max_request;
  };
  for (size_t i = 0; i < runs.size(); ++i) {
    if (!requests.empty() && i + 1 < runs.size() &&
        joins(requests.back(), runs[i], runs[i + 1])) {
      Pieces& request = requests.back();
      request.insert(request.end(), runs[i].begin(), runs[i].end());
      request.insert(request.end(), runs[i + 1].begin(), runs[i + 1].end());
      ++i;
    } else {
      requests.push_back(std::move(runs[i]));
    }
  }
  return requests;
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
  return with_small_zeroes(std::move(requests), is_zero, limits);
}

}  // namespace upload::volume
