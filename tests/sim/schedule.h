// SPDX-License-Identifier: BSD-3-Clause
//
// A schedule: everything that happens to the plugin from one seed. A plan is
// drawn (parameters, clients, troubles, lives), then carried out by the plugin's
// own sources on fibers, against the model server and the model disk, and what
// clients and the server see is compared with the Model.
//
// A schedule that finds something wrong ends the process through sim::fail().

#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace upload::sim {

enum class Mode { kOff, kReplay, kSpool, kLocal };
inline constexpr Mode kModes[] = {Mode::kOff, Mode::kReplay, Mode::kSpool, Mode::kLocal};
[[nodiscard]] const char* name_of(Mode mode);
[[nodiscard]] std::optional<Mode> mode_named(const std::string& name);

struct Tally {
  uint64_t schedules = 0;
  uint64_t operations = 0;
  uint64_t failed = 0;   // operations that were answered by an error
  uint64_t flushes = 0;  // that succeeded
  uint64_t faults = 0;
  uint64_t kills = 0;
  uint64_t steps = 0;
  uint64_t hash = 0;  // of the traces: their sum
  void operator+=(const Tally& other);
};

[[nodiscard]] Tally run_schedule(uint64_t seed, Mode mode, bool trace);

}  // namespace upload::sim
