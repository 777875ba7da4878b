// SPDX-License-Identifier: BSD-3-Clause
//
// One generator for each thread, each with a seed of its own.

#include "base/random.h"

#include <random>

namespace upload {

double random_between(double least, double bound) {
  static thread_local std::minstd_rand generator(std::random_device{}());
  return std::uniform_real_distribution<double>(least, bound)(generator);
}

}  // namespace upload
