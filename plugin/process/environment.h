// SPDX-License-Identifier: BSD-3-Clause
//
// Environment: what an instance has around it: time, the network, and a disk
// for the spool. The simulation has another one.

#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "claim/ledger.h"
#include "http/connection.h"
#include "http/origin.h"
#include "journal/store.h"

namespace upload {

struct Config;

struct Environment {
  Clock& clock;
  http::Connector connect;
  // Takes the place of that spool in a directory, see SpoolFile::lock().
  std::function<Result<std::unique_ptr<journal::SpoolPlace>>(const std::string& directory,
                                                             const journal::SpoolName& name)>
      take_spool_place;
  // Sleeps for so long at most. True: the process is to end; returns soon then.
  std::function<bool(Duration)> sleep_unless_ending;
  // The ledger that claim= names, for the volume of that hash (claim::hash_of()).
  std::function<std::unique_ptr<claim::Ledger>(const Config& config, const std::string& hash)>
      open_ledger = {};
};

// The machine's own. What tells that the process is to end is nbdkit's.
[[nodiscard]] Environment real_environment(std::function<bool(Duration)> sleep_unless_ending);

}  // namespace upload
