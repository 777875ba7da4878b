// SPDX-License-Identifier: BSD-3-Clause
//
// VolumeFigures: how a volume is doing at one moment, for whoever watches it from outside.
// Values.

#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "base/stats.h"
#include "volume/spool_state.h"

namespace upload::volume {

// Of a replay log, in bytes.
struct LogFigures {
  uint64_t used = 0;
  uint64_t limit = 0;  // with all that could be borrowed
  // Acknowledged, and on no connection: to be sent yet, or again.
  uint64_t to_send = 0;
};

struct SpoolFigures {
  SpoolState state = SpoolState::kDirect;
  uint64_t rows = 0;
  uint64_t used = 0;              // bytes, as spool-size= counts them
  std::optional<uint64_t> limit;  // bytes; nothing: what the disk has
};

struct VolumeFigures {
  uint64_t size = 0;  // bytes
  Stats::AllCounts requests{};
  uint64_t retries = 0;
  bool failed = false;  // an error has latched

  // Outages so far with the one that lasts, and the time of all of them.
  bool outage = false;
  uint64_t outages = 0;
  Duration outage_time{0};

  std::optional<LogFigures> log;      // with a replay log
  std::optional<SpoolFigures> spool;  // with a spool
};

}  // namespace upload::volume
