// SPDX-License-Identifier: BSD-3-Clause
//
// How the parts are put together, and what concerns the beginning and the end of a volume.

#include "volume/volume.h"

#include <cassert>
#include <utility>

#include "base/log.h"

namespace upload::volume {

namespace {

std::unique_ptr<Mode> make_mode(Core& core, Fallback& fallback) {
  if (core.options.replay == 0) return std::make_unique<FailAtOnce>(core);
  return std::make_unique<Persist>(core, fallback);
}

}  // namespace

Volume::Volume(VolumeOptions options, upstream::Pool& pool, Clock& clock, Stats& stats)
    : core_(std::move(options), pool, clock, stats),
      spooler_(core_.options.spool ? std::make_unique<Spooler>(core_) : nullptr),
      mode_(make_mode(core_, fallback())),
      exchange_(core_, *mode_),
      flusher_(core_, *mode_, exchange_, fallback()),
      writer_(core_, *mode_, exchange_, fallback(), flusher_),
      reader_(core_, *mode_, exchange_, fallback()) {
  assert(core_.options.replay > 0 || !core_.options.spool);
  if (core_.options.replay > 0)
    recovery_ = std::make_unique<Recovery>(core_, *mode_, exchange_, flusher_, spooler_.get());
  pool.add_client(*this);
}

Volume::~Volume() { core_.pool.remove_client(*this); }

void Volume::connection_lost(ConnectionId id, const Status& why) {
  mode_->connection_lost(id, why);
}

void Volume::keep_alive(upstream::Lease& lease) {
  if (!lease.retired().ok()) return;  // lost under another client's request
  const Status status = exchange_.flush(lease, Purpose::kKeepAlive);
  if (!status.ok()) UPLOAD_DEBUG(keeper, "keeper: %s", status.text().c_str());
}

// --- The spool ------------------------------------------------------------

Status Volume::wait_for_leftovers() {
  MutexLock lock(core_.mutex);
  const TimePoint start = core_.clock.now();
  while (core_.has_leftovers) {
    if (core_.health.latched()) return *core_.health.latched();
    if (core_.health.stopping()) return {Kind::kShutdown, "the plugin is shutting down"};
    const TimePoint give_up = core_.give_up_on_spool_at(start);
    if (core_.clock.now() >= give_up) return core_.waited_for_spool("open the disk");
    core_.wait_for(core_.changed, give_up);
  }
  return {};
}

void Volume::wait_for_spool(Duration give_up_after) {
  MutexLock lock(core_.mutex);
  const TimePoint start = core_.clock.now();
  core_.waits_for_spool = true;
  while (core_.spool_is_busy() && !core_.health.over()) {
    const TimePoint give_up = core_.drain_progress.given_up_at(start, give_up_after);
    if (core_.clock.now() >= give_up) break;
    core_.wait_for(core_.stable, give_up);
  }
  core_.waits_for_spool = false;
}

bool Volume::keep_spool() {
  if (!core_.options.spool) return false;
  core_.options.spool->keep();
  bool empty = false;
  {
    MutexLock lock(core_.mutex);
    empty = core_.unflushed.rows().empty();
  }
  if (empty)
    log::warning(
        "%s: the spool %s stays, empty: it tells the next start that the server may "
        "still apply requests that have failed",
        core_.options.name.c_str(), core_.options.spool->path().c_str());
  return true;
}

// --- The end --------------------------------------------------------------

bool Volume::server_is_away() {
  MutexLock lock(core_.mutex);
  return !core_.health.latched() &&
         (core_.health.in_outage() || core_.spool_state == SpoolState::kSpooling);
}

void Volume::give_up() {
  std::string left;
  {
    MutexLock lock(core_.mutex);
    left = core_.not_on_server();
    told_what_is_left_ = true;
  }
  log::warning(
      "%s: nbdkit is to end and the server does not answer: requests that wait for it "
      "fail%s%s",
      core_.options.name.c_str(), left.empty() ? "" : "; ", left.c_str());
  core_.stop();
}

void Volume::request_stop() { core_.stop(); }

void Volume::join() {
  if (recovery_) recovery_->join();
  std::string left;
  {
    MutexLock lock(core_.mutex);
    if (!std::exchange(told_what_is_left_, true)) left = core_.not_on_server();
  }
  if (!left.empty()) log::warning("%s: %s", core_.options.name.c_str(), left.c_str());
}

std::optional<TimePoint> Volume::late_copies_may_come() {
  MutexLock lock(core_.mutex);
  return core_.late_copies.last(core_.clock.now());
}

// --- For tests ------------------------------------------------------------

void Volume::check(const Mutex& held) const {
  if (&held == &core_.mutex) core_.check();
}

void Volume::check_waits() const { core_.check_waits(); }

}  // namespace upload::volume
