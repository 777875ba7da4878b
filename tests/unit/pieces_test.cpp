// SPDX-License-Identifier: BSD-3-Clause
//
// How what is to be written is cut into requests.

#include "volume/pieces.h"

#include <string>

#include "catch.h"

using upload::volume::BatchLimits;
using upload::volume::Piece;
using upload::volume::Pieces;

namespace {

const char kData[1] = {};

// "a4 -2 .3": four bytes of data, two of zeroes, three of nothing, one after the other.
Pieces pieces_of(const std::string& text) {
  Pieces pieces;
  uint64_t at = 0;
  for (size_t i = 0; i < text.size(); i += 3) {
    const uint64_t length = static_cast<uint64_t>(text[i + 1] - '0');
    if (text[i] != '.') pieces.push_back({{at, length}, text[i] == '-' ? nullptr : kData, 1});
    at += length;
  }
  return pieces;
}

std::string shown(const std::vector<Pieces>& requests) {
  std::string text;
  for (const Pieces& request : requests) {
    text += text.empty() ? "" : "|";
    for (const Piece& piece : request)
      text += (piece.data == nullptr ? "-" : "a") + std::to_string(piece.range.length);
  }
  return text;
}

}  // namespace

TEST_CASE("pieces of a kind go together as far as a request allows", "[pieces]") {
  const BatchLimits limits = {.max_request = 10, .max_zero = 20};
  CHECK(shown(split(pieces_of("a4 a5 a1 a1"), limits)) == "a4a5a1|a1");
  CHECK(shown(split(pieces_of("a4 .1 a5"), limits)) == "a4|a5");
  CHECK(shown(split(pieces_of("-9 -9 -3"), limits)) == "-9-9|-3");
  CHECK(shown(split(pieces_of("a4 -2 a4"), limits)) == "a4|-2|a4");
}

TEST_CASE("small zeroes go along with the data on both their sides", "[pieces]") {
  const BatchLimits limits = {.max_request = 20, .max_zero = 20, .small_zero = 3};
  CHECK(shown(split(pieces_of("a4 -2 a4"), limits)) == "a4-2a4");
  CHECK(shown(split(pieces_of("a4 -2 a4 -3 a1"), limits)) == "a4-2a4-3a1");
  CHECK(shown(split(pieces_of("a4 -2 -2 a4"), limits)) == "a4|-2-2|a4");
  CHECK(shown(split(pieces_of("-2 a4 -2"), limits)) == "-2|a4|-2");
  CHECK(shown(split(pieces_of("a4 -2 .1 a4"), limits)) == "a4|-2|a4");
  CHECK(shown(split(pieces_of("a4 .1 -2 a4"), limits)) == "a4|-2|a4");
  CHECK(shown(split(pieces_of("a9 -3 a9"), limits)) == "a9|-3|a9");
  CHECK(shown(split(pieces_of("a9 -2 a9"), limits)) == "a9-2a9");
}

TEST_CASE("where the server can not zero, zeroes are data", "[pieces]") {
  const BatchLimits limits = {.max_request = 10, .max_zero = 20, .zero_is_data = true};
  CHECK(shown(split(pieces_of("a4 -4 a4"), limits)) == "a4-4|a4");
}

TEST_CASE("a zero is cut where it is a part of a block", "[pieces]") {
  const BatchLimits limits = {.max_request = 16, .max_zero = 64, .block = 4};
  CHECK(shown(split(pieces_of("a2 -9 a1"), limits)) == "a2-2|-4|-3a1");
}
