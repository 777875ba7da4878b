// SPDX-License-Identifier: BSD-3-Clause
//
// base/random.h as the simulation has it: from the schedule's seed.

#include "base/random.h"

#include "sim/scheduler.h"

namespace upload {

double random_between(double least, double bound) {
  constexpr uint64_t kSteps = 1U << 20;
  return least + (bound - least) * static_cast<double>(sim::scheduler().random().below(kSteps)) /
                     static_cast<double>(kSteps);
}

}  // namespace upload
