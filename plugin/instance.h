// SPDX-License-Identifier: BSD-3-Clause
//
// Instance: the parts of a running plugin, and the order in which they come
// to life and go: discovery before the fork, pool and keeper after it.
//
// Its methods are called by nbdkit on one thread, in this order.

#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/stats.h"
#include "config.h"
#include "journal/spool.h"
#include "pool/keeper.h"
#include "pool/pool.h"
#include "volume/discover.h"
#include "volume/volume.h"

namespace upload {

class Instance {
 public:
  explicit Instance(Config config);
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
  Status check_spool();
  Status discover_volume();
  Result<std::shared_ptr<journal::Spool>> open_spool();
  [[nodiscard]] journal::SpoolStore::Options store_options(uint64_t size) const;

  const Config config_;
  SteadyClock clock_;
  Stats stats_;
  std::shared_ptr<const target::Target> target_;
  std::unique_ptr<journal::SpoolFile> spool_file_;
  bool has_leftovers_ = false;
  std::unique_ptr<volume::Discovery> found_;
  std::unique_ptr<pool::Pool> pool_;
  std::unique_ptr<volume::Volume> volume_;
  std::unique_ptr<pool::Keeper> keeper_;
};

}  // namespace upload
