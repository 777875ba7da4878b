// SPDX-License-Identifier: BSD-3-Clause
//
// Wiring. nbdkit forks between discover() and start(): what is made before
// must not be a thread or a connection that is used after.

#include "instance.h"

#include <algorithm>

#include "base/log.h"
#include "http/curl_connection.h"

namespace upload {

namespace {

// Merged zeroes: few requests for a large disk, each quick enough for a
// server that has to write them out.
constexpr uint64_t kMaxZero = uint64_t{256} << 20;
// Less than what a request costs on most links.
constexpr uint64_t kSmallZero = uint64_t{64} << 10;

}  // namespace

Instance::Instance(Config config) : config_(std::move(config)) {}

Instance::~Instance() { stop(); }

Status Instance::discover() {
  target_ = target::make_target(config_.target, config_.origin.url);
  Result<volume::Discovery> found =
      volume::discover(*target_, config_.origin, config_.auto_socket, config_.size);
  if (!found.ok()) return found.status();
  found_ = std::make_unique<volume::Discovery>(std::move(found.value()));
  return {};
}

void Instance::start() {
  const target::Capabilities& offered = found_->capabilities;
  pool::PoolOptions options;
  options.connections =
      std::min({config_.connections, offered.max_readers, offered.max_writers});
  options.connect_timeout = config_.origin.connect_timeout;
  options.timeout = config_.origin.timeout;
  pool_ = std::make_unique<pool::Pool>(
      options,
      [origin = found_->origin](http::ConnectionId id, http::ConnectionEvents events) {
        return http::make_curl_connection(origin, id, std::move(events));
      },
      clock_);

  volume::VolumeOptions volume;
  volume.name = config_.origin.url.redacted();
  volume.target = target_;
  volume.capabilities = offered;
  volume.size = found_->size;
  volume.limits = {config_.max_request, kMaxZero, kSmallZero, !offered.can_zero};
  volume.replay = config_.replay;
  volume.retry_time = config_.retry_time;
  volume.late = config_.origin.timeout;
  volume_ = std::make_unique<volume::Volume>(std::move(volume), *pool_, clock_, stats_);
  keeper_ = std::make_unique<pool::Keeper>(*pool_, config_.idle_timeout, clock_);
  UPLOAD_DEBUG(pool, "%s: at most %u connections to %s; flush %d, zero %d, extents %d",
               volume_->capabilities().can_write ? "writable" : "read-only",
               options.connections, found_->origin->name().c_str(), offered.can_flush,
               offered.can_zero, offered.can_extents);
}

void Instance::stop() {
  if (!keeper_) return;
  keeper_->request_stop();
  volume_->request_stop();
  pool_->close();
  keeper_->join();
  volume_->join();
  keeper_.reset();
  if (upload_debug_stats != 0)
    for (const std::string& line : stats_.lines()) log::debug("%s", line.c_str());
}

}  // namespace upload
