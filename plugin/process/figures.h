// SPDX-License-Identifier: BSD-3-Clause
//
// Figures: how all of a process is doing at one moment. Taken by Instance::figures(), for
// metrics= and for -D upload.stats=1. Values; no secret is in them but what a user has put into
// the name of an export.

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "upstream/pool.h"
#include "volume/figures.h"

namespace upload {

struct ClaimFigures {
  bool held = false;
  std::optional<Duration> left;  // until it has to be renewed; nothing: it does not run out
};

struct DiskFigures {
  std::string name;  // of the export; without one, the server's
  volume::VolumeFigures volume;
  std::optional<ClaimFigures> claim;  // with claim=
};

struct ServerFigures {
  std::string name;
  upstream::PoolFigures pool;
};

struct Figures {
  bool running = true;  // false: all has ended, and nothing will change any more
  std::vector<DiskFigures> disks;
  std::vector<ServerFigures> servers;
};

}  // namespace upload
