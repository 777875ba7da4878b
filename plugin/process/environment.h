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
#include "http/connection.h"
#include "http/origin.h"
#include "journal/store.h"

namespace upload {

struct Environment {
  Clock& clock;
  http::Connector connect;
  // Takes the place of that spool in a directory, see SpoolFile::lock().
  std::function<Result<std::unique_ptr<journal::SpoolPlace>>(const std::string& directory,
                                                             const journal::SpoolName& name)>
      take_spool_place;
  // Sleeps for so long at most. True: the process is to end; returns soon then.
  std::function<bool(Duration)> sleep_unless_ending;
};

// The machine's own. What tells that the process is to end is nbdkit's.
[[nodiscard]] Environment real_environment(std::function<bool(Duration)> sleep_unless_ending);

}  // namespace upload
