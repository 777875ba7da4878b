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
  if (!core.options.persists()) return std::make_unique<FailAtOnce>(core);
  return std::make_unique<Persist>(core, fallback);
}

}  // namespace

Volume::Volume(VolumeOptions options, upstream::Pool& pool, Clock& clock, Stats& stats)
    : core_(std::move(options), pool, clock, stats),
      spooler_(core_.options.spool ? std::make_unique<Spooler>(core_) : nullptr),
      mode_(make_mode(core_, fallback())),
      exchange_(core_, *mode_),
      flusher_(core_, *mode_, exchange_, fallback()),
      delivery_(core_, *mode_, exchange_),
      write_back_(core_.options.write_back ? std::make_unique<WriteBack>(core_, *mode_, delivery_)
                                           : nullptr),
      writer_(core_, *mode_, exchange_, delivery_, write_back_.get(), fallback(), flusher_),
      reader_(core_, *mode_, exchange_, fallback()) {
  assert(core_.options.replay > 0 || !(core_.options.spool || core_.options.write_back));
  core_.share.set_client(*this);
  if (!core_.options.keeps_content()) return;
  try {
    recovery_ = std::make_unique<Recovery>(core_, *mode_, exchange_, flusher_, spooler_.get(),
                                           write_back_.get());
  } catch (...) {
    core_.share.remove_client();
    throw;
  }
}

Volume::~Volume() { core_.share.remove_client(); }

void Volume::connection_lost(ConnectionId id, const Status& why) {
  mode_->connection_lost(id, why);
}

bool Volume::is_dirty(ConnectionId id) const {
  MutexLock lock(core_.mutex);
  return core_.unflushed.log.is_dirty(id);
}

void Volume::keep_alive(upstream::Lease& lease) {
  const Status status = exchange_.flush(lease, Purpose::kKeepAlive);
  if (!status.ok()) UPLOAD_DEBUG(keeper, "keeper: %s", status.text().c_str());
}

// --- The end --------------------------------------------------------------

bool Volume::server_is_away() {
  MutexLock lock(core_.mutex);
  return !core_.health.over() &&
         (core_.health.in_outage() || core_.spool_state == SpoolState::kSpooling);
}

void Volume::give_up() {
  core_.say_what_is_left(
      "nbdkit is to end and the server does not answer: requests that wait "
      "for it fail");
  core_.stop();
  core_.share.abort_requests();
}

void Volume::join() {
  if (recovery_) recovery_->join();
  core_.say_what_is_left();
}

Volume::Outcome Volume::outcome() {
  MutexLock lock(core_.mutex);
  if (core_.changes_begun == 0 && !core_.had_leftovers) return Outcome::kUntouched;
  const bool all_stable = core_.flushed && core_.changes_flushed == core_.changes_acknowledged &&
                          core_.unflushed.rows().empty();
  return all_stable && !core_.health.latched() ? Outcome::kFlushed : Outcome::kUnfinished;
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
