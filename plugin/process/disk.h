// SPDX-License-Identifier: BSD-3-Clause
//
// Disk: one export: its parameters, what an earlier run has left of it, what the server says of
// it, and, once it is started, its volume.
//
// discover(), start() and what belongs to the end are called on one thread at a time.

#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "base/stats.h"
#include "claim/claim.h"
#include "journal/spool.h"
#include "process/clients.h"
#include "process/config.h"
#include "process/environment.h"
#include "process/figures.h"
#include "process/leftovers.h"
#include "upstream/pool.h"
#include "volume/discover.h"
#include "volume/volume.h"

namespace upload {

class Disk {
 public:
  // `config` has its URL and size, no exports, and in `replay` what is its own of that memory;
  // `common` is what it may borrow from, or null. `name`: of the export; empty: it is the only
  // one. The environment outlives the disk.
  Disk(std::string name, Config config, std::shared_ptr<journal::CommonMemory> common,
       const Environment& environment);

  // What clients ask for.
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const http::Url& url() const { return config_.origin.url; }
  // For error texts; no secret in it.
  [[nodiscard]] const std::string& title() const { return title_; }

  // Looks into the spool and talks to the server. Starts no thread. May be called again when
  // it has failed.
  Status discover();
  // It is not to be tried any more: nbdkit is to end. Any thread.
  void give_up_discovery() { given_up_ = true; }
  [[nodiscard]] bool discovered() const { return ready_; }

  // --- The claim; without claim=, or where the server allows only reading, there is none ---

  // After discover(), which is undone by a failure. `meanwhile` as Claim::acquire()'s.
  Status acquire_claim(const std::function<void()>& meanwhile);
  // For whoever waits for another's.
  void renew_claim_if_due();
  // Gives it back, with the state that follows from what was done; also without start(). When
  // the volume's threads have ended, and requests that have failed can't be applied any more.
  void let_go_of_claim();
  // In which all processes take claims, so that no two wait for each other.
  [[nodiscard]] std::string claim_order() const;

  // After discover(): what the connections are made to, and what the server offers.
  [[nodiscard]] const std::shared_ptr<const http::Origin>& origin() const {
    return found_->origin;
  }
  [[nodiscard]] const target::Capabilities& offered() const { return found_->capabilities; }

  // Between the two: makes the disk ready to be written, when nobody else may write to it.
  Status prepare();
  // Makes the volume; nbdkit has forked. The pool outlives the disk, and is one of origin()'s;
  // so many disks may come to share it.
  Status start(upstream::Pool& pool, size_t disks);
  // Once it is started.
  [[nodiscard]] volume::Volume& volume() { return *volume_; }

  // Once it is started; any thread.
  [[nodiscard]] DiskFigures figures() const;

  [[nodiscard]] Clients& clients() { return clients_; }
  // Whether it is of interest which clients are connected.
  [[nodiscard]] bool counts_clients() const { return claim_ != nullptr; }

  // Host and size, for clients; once it is started.
  [[nodiscard]] const std::string& description() const { return description_; }

  // --- The end, when the volume's threads have ended ---

  // Requests have failed that the server may yet apply, and nothing but time tells those who
  // come next.
  [[nodiscard]] bool needs_time();
  // Asks for a few seconds whether the server is alive, and notes its answer. False: there
  // is none.
  [[nodiscard]] bool ask_server();
  // Until the server can't apply them any more; says so.
  void wait_for_late_copies();

 private:
  Status discover_all();
  Status choose_target();
  void forget_discovery();
  Result<std::unique_ptr<claim::Ledger>> open_ledger();
  [[nodiscard]] std::optional<claim::State> claim_state();
  Status discover_volume();
  Result<std::shared_ptr<journal::Spool>> open_spool();
  Result<std::unique_ptr<journal::Store>> open_store(uint64_t size, bool verify);

  const std::string name_;
  Config config_;  // constant once discover() has chosen what the target leaves open
  const std::string title_;
  const std::shared_ptr<journal::CommonMemory> common_;
  const Environment& environment_;
  Clock& clock_;
  Stats stats_;
  std::shared_ptr<const target::Target> target_;
  std::optional<Leftovers> leftovers_;
  std::unique_ptr<journal::SpoolPlace> spool_place_;
  std::unique_ptr<volume::Discovery> found_;
  std::string description_;
  bool ready_ = false;
  std::atomic<bool> given_up_ = false;
  std::unique_ptr<claim::Claim> claim_;
  Clients clients_;
  std::unique_ptr<volume::Volume> volume_;
};

}  // namespace upload
