// SPDX-License-Identifier: BSD-3-Clause
//
// One round of the soak: a server with one to three disks, an nbdkit with the plugin, clients
// that write and read, and chaos. The round's seed decides all that is random in it;
// only the threads' order of running is left to the machine.
//
// What is promised, and checked:
//   - any mode: when a flush succeeds, what was acknowledged before it is in
//     the stable image, and stays there; the same for a FUA write. A read
//     returns nothing that was never there.
//   - mode off, without a failure: reads return the newest content.
//   - mode replay: no client sees an error, reads return the newest content,
//     and in the end, after a flush, the whole stable image is what was written.
//   - mode spool: the same, although nbdkit is killed every now and then and
//     started again. What was acknowledged and not flushed may then be lost.
//     When a flush is satisfied by the spool, the stable image has what was
//     flushed when nbdkit has ended; nothing is left in the spool then.
//   - where a reply means stable (TargetKind::stable_on_reply): mode off as mode replay.
//   - it ends.
// Errors: std::runtime_error when a round can't be set up.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "fixture/targets.h"
#include "soak/chaos.h"

namespace upload::soak {

enum class Mode { off, replay, spool };

struct RoundOptions {
  uint64_t seed = 1;
  Mode mode = Mode::off;
  const fixture::TargetKind* target = &fixture::kImageio;
  uint64_t disks = 0;        // of one server, in one nbdkit; 0: random
  uint64_t clients = 0;      // 0: random
  uint64_t operations = 0;   // of each client; 0: random
  uint64_t late_ms = 30;     // after their connection changes are applied in rounds that are late
  bool strict_reads = true;  // with replay: stale reads are violations
  std::vector<std::string> keys{};  // further ones for the plugin

  // The plugin is to survive what happens: no client may see an error.
  [[nodiscard]] bool survivable() const { return mode != Mode::off || target->stable_on_reply; }
};

struct RoundResult {
  std::string style{};
  std::map<std::string, uint64_t> mischief{};  // by kind
  uint64_t faults = 0;                         // the sum of these
  uint64_t operations = 0;
  uint64_t failed = 0;
  uint64_t flushes = 0;
  uint64_t stale_reads = 0;
  uint64_t bytes_lost = 0;  // by the server; they must have been told or sent again
  uint64_t lost_cells = 0;
  uint64_t violations = 0;
  std::vector<std::string> texts{};
  std::string log{};  // nbdkit's
};

// `on_hang` is called, on another thread, when the round has not ended in its
// time, with what everybody is waiting for; it must end the program.
RoundResult run_round(const RoundOptions& options,
                      const std::function<void(const std::string&)>& on_hang);

}  // namespace upload::soak
