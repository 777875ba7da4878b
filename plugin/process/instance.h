// SPDX-License-Identifier: BSD-3-Clause
//
// Instance: the parts of a running plugin, and the order in which they come
// to life and go: discovery before the fork, pools and keepers after it.
//
// Disks of the same origin share an upstream and a session; nothing else is theirs together
// but the shutdown watch, and the memory for replay.
//
// discover(), start() and stop() are called by nbdkit on one thread, in this order; the rest
// between start() and stop(), on any.

#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/shutdown_watch.h"
#include "process/config.h"
#include "process/disk.h"
#include "process/environment.h"
#include "process/figures.h"
#include "process/sessions.h"
#include "upstream/upstream.h"

namespace upload {

class Instance {
 public:
  Instance(const Config& config, Environment environment);
  ~Instance();

  // Looks into the spools, talks to the servers, and takes the claims. Starts no thread that
  // lasts.
  Status discover();
  // Starts keepers; disks may be used from here on.
  Status start() EXCLUDES(mutex_);
  // Waits for the spools; ends requests under way, the keepers and all
  // connections. Repeatable.
  void stop() EXCLUDES(mutex_);

  // In the order of the parameters; the first is the default. Constant.
  [[nodiscard]] const std::vector<std::unique_ptr<Disk>>& disks() const { return disks_; }
  // There is one, and it has no name: clients may call it as they like.
  [[nodiscard]] bool nameless() const { return disks_.front()->name().empty(); }

  // The disk that a client has asked for; its volume is there, and what an earlier run has
  // left in the spool is on the server.
  [[nodiscard]] Result<Disk*> open(const std::string& name) EXCLUDES(mutex_);

  // How all is doing now: what has been started. From start() until the instance is destroyed, on
  // any thread; waits for no server.
  [[nodiscard]] Figures figures() EXCLUDES(mutex_);

 private:
  std::vector<std::unique_ptr<Disk>> make_disks();
  std::vector<Status> discover_all();
  void acquire_claims(std::vector<Status>& results);
  void let_go_of_claims();
  [[nodiscard]] Result<Disk*> find(const std::string& name) const;
  Status make_ready(Disk& disk) EXCLUDES(mutex_);
  Status start_disk(Disk& disk) EXCLUDES(mutex_);
  upstream::Upstream& upstream_of(const Disk& disk) REQUIRES(mutex_);
  std::vector<Disk*> running() EXCLUDES(mutex_);
  [[nodiscard]] bool a_server_is_away() EXCLUDES(mutex_);
  void give_up() EXCLUDES(mutex_);
  void say_statistics() EXCLUDES(mutex_);
  void wait_for_late_copies(const std::vector<Disk*>& disks) EXCLUDES(mutex_);

  const Config config_;
  const Environment environment_;
  Clock& clock_;
  Sessions sessions_;

  Mutex mutex_;
  CondVar changed_;  // starting_
  std::list<upstream::Upstream> upstreams_ GUARDED_BY(mutex_);
  // Those whose volumes there are, and those that somebody is just starting.
  std::vector<Disk*> running_ GUARDED_BY(mutex_);
  std::set<Disk*> starting_ GUARDED_BY(mutex_);

  // After the upstreams, as their volumes end first.
  std::vector<std::unique_ptr<Disk>> disks_;
  std::unique_ptr<ShutdownWatch> shutdown_watch_;
  bool stopped_ = false;
  std::atomic<bool> ended_ = false;
};

}  // namespace upload
