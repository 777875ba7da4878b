// SPDX-License-Identifier: BSD-3-Clause
//
// Recovery: the threads that a volume with a replay log has behind it, and what they do:
// they send again what was lost, make room, empty the spool, and send what was acknowledged before.

#pragma once

#include <optional>

#include "volume/core.h"
#include "volume/drainer.h"
#include "volume/exchange.h"
#include "volume/flusher.h"
#include "volume/mode.h"
#include "volume/replayer.h"
#include "volume/resender.h"
#include "volume/senders.h"
#include "volume/spooler.h"
#include "volume/write_back.h"

namespace upload::volume {

class Recovery {
 public:
  // All outlive it. Null `spooler`: there is no spool; null `write_back`: nothing is ever unsent.
  // Starts the threads; throws when there are none.
  Recovery(Core& core, Mode& mode, Exchange& exchange, Flusher& flusher, Spooler* spooler,
           WriteBack* write_back);
  // After join().
  ~Recovery() = default;
  Recovery(const Recovery&) = delete;
  Recovery& operator=(const Recovery&) = delete;

  // Once the volume stops.
  void join();

 private:
  Resender resender_;
  Replayer replayer_;
  std::optional<Drainer> drainer_;
  std::optional<Senders> replay_;
  std::optional<Senders> drain_;
  std::optional<Senders> send_;
};

}  // namespace upload::volume
