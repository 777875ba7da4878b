// SPDX-License-Identifier: BSD-3-Clause
//
// Which threads there are.

#include "volume/recovery.h"

namespace upload::volume {

Recovery::Recovery(Core& core, Mode& mode, Exchange& exchange, Flusher& flusher, Spooler* spooler,
                   WriteBack* write_back)
    : resender_(core, exchange), replayer_(core, mode, flusher, resender_) {
  if (spooler != nullptr) drainer_.emplace(core, *spooler, exchange, resender_, replayer_);
  // Those who replay are content with fewer; so the others come first.
  if (drainer_) drain_.emplace(core, core.spool_work, *drainer_, drainer_->most_threads());
  try {
    if (write_back != nullptr)
      send_.emplace(core, core.send_work, *write_back, core.share.limit());
    replay_.emplace(core, core.replay_work, replayer_, core.share.limit());
  } catch (...) {
    // There are no more threads. Nobody destroys this; so the others are ended here.
    core.stop();
    join();
    throw;
  }
}

void Recovery::join() {
  if (replay_) replay_->join();
  if (drain_) drain_->join();
  if (send_) send_->join();
}

}  // namespace upload::volume
