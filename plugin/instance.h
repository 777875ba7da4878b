// SPDX-License-Identifier: BSD-3-Clause
//
// Instance: the parts of a running plugin, and the order in which they come
// to life and go: discovery before the fork, pool and keeper after it.
//
// Its methods are called by nbdkit on one thread, in this order.

#pragma once

#include <memory>
#include <string>

#include "base/shutdown_watch.h"
#include "base/stats.h"
#include "config.h"
#include "environment.h"
#include "journal/spool.h"
#include "leftovers.h"
#include "upstream/keeper.h"
#include "upstream/pool.h"
#include "volume/discover.h"
#include "volume/volume.h"

namespace upload {

class Instance {
 public:
  Instance(Config config, Environment environment);
  ~Instance();

  // Looks into the spool and talks to the server. Starts no thread.
  Status discover();
  // Starts the keeper; volume() may be used from here on.
  Status start();
  // Waits for the spool; ends requests under way, the keeper and all
  // connections. Repeatable.
  void stop();

  [[nodiscard]] volume::Volume& volume() { return *volume_; }

 private:
  Status discover_volume();
  void wait_for_late_copies();
  void ask_server();
  Result<std::shared_ptr<journal::Spool>> open_spool();
  Result<std::unique_ptr<journal::Store>> open_store(uint64_t size, bool verify);

  const Config config_;
  const Environment environment_;
  Clock& clock_;
  Stats stats_;
  std::shared_ptr<const target::Target> target_;
  Leftovers leftovers_;
  std::unique_ptr<journal::SpoolPlace> spool_place_;
  std::unique_ptr<volume::Discovery> found_;
  std::unique_ptr<upstream::Pool> pool_;
  std::unique_ptr<volume::Volume> volume_;
  std::unique_ptr<upstream::Keeper> keeper_;
  std::unique_ptr<ShutdownWatch> shutdown_watch_;
};

}  // namespace upload
