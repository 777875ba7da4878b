// SPDX-License-Identifier: BSD-3-Clause
//
// Random numbers of a stream: the same (seed, stream) gives the same numbers
// on every machine, and the streams of a seed have nothing to do with each
// other. So what a thread of a soak does depends on its own stream only.
// One thread. No errors.

#pragma once

#include <cstdint>

namespace upload::soak {

class Random {
 public:
  Random(uint64_t seed, uint64_t stream) : state_(seed * 0x9e3779b97f4a7c15ULL) {
    state_ = next() ^ (stream * 0xd1b54a32d192ed03ULL);
    (void)next();
  }

  // SplitMix64 (Steele, Lea, Flood 2014).
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }

  // From 0 to `bound` - 1. The bias does not matter here.
  uint64_t below(uint64_t bound) { return next() % bound; }
  uint64_t between(uint64_t first, uint64_t last) { return first + below(last - first + 1); }
  bool percent(uint64_t chance) { return below(100) < chance; }
  template <class T, std::size_t kSize>
  const T& any_of(const T (&list)[kSize]) {
    return list[below(kSize)];
  }

 private:
  uint64_t state_;
};

}  // namespace upload::soak
