// SPDX-License-Identifier: BSD-3-Clause
//
// Asked: what a request asks for, by what goes over the wire: method, target, header
// fields, body. A value.

#pragma once

#include <cstdint>
#include <iosfwd>
#include <vector>

#include "base/byte_range.h"
#include "http/message.h"

namespace upload::script {

constexpr uint64_t kBlock = 4096;

enum class Verb { kOptions, kPost, kRead, kExtents, kWrite, kZero, kFlush };

// What a request asks for.
struct Asked {
  Verb verb = Verb::kOptions;
  ByteRange range;      // of kRead, kWrite and kZero
  bool stable = false;  // kWrite and kZero: not before it is stable
  friend bool operator==(const Asked&, const Asked&) = default;
};
std::ostream& operator<<(std::ostream& out, const Asked& asked);
// Ends the process where the images API has no such request.
[[nodiscard]] Asked parse(const http::Request& request);

using Requests = std::vector<Asked>;

// In blocks, for comparisons.
inline Asked wrote(uint64_t block, uint64_t count = 1, bool stable = false) {
  return {Verb::kWrite, {block * kBlock, count * kBlock}, stable};
}
inline Asked wrote_stable(uint64_t block, uint64_t count = 1) {
  return wrote(block, count, true);
}
inline Asked zeroed(uint64_t block, uint64_t count = 1, bool stable = false) {
  return {Verb::kZero, {block * kBlock, count * kBlock}, stable};
}
inline const Asked kFlushed{Verb::kFlush, {}, false};
inline const Asked kAskedExtents{Verb::kExtents, {}, false};
inline const Asked kAskedOptions{Verb::kOptions, {}, false};

}  // namespace upload::script
