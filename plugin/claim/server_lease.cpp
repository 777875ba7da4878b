// SPDX-License-Identifier: BSD-3-Clause
//
// The lease is acquired under a condition, that nothing has changed since the look; then the record
// is written with it. A process that dies in between holds the lease for its time, with the record
// of the one before it.
//
// It is let go of in two steps, the record and then the lease. Whoever is killed between them
// leaves a lease that ends by itself, and the right record.

#include "claim/server_lease.h"

#include <algorithm>
#include <utility>

namespace upload::claim {

namespace {

constexpr Duration kLongestRequest = std::chrono::seconds(10);

std::shared_ptr<const http::Origin> with_limits(http::Origin origin) {
  origin.connect_timeout = std::min(origin.connect_timeout, kLongestRequest);
  origin.timeout = std::min(origin.timeout, kLongestRequest);
  return std::make_shared<const http::Origin>(std::move(origin));
}

}  // namespace

ServerLease::ServerLease(std::unique_ptr<target::DiskLease> protocol, const http::Origin& origin,
                         Duration time, http::Connector connect, Clock& clock)
    : protocol_(std::move(protocol)),
      origin_(with_limits(origin)),
      time_(time),
      requests_(std::move(connect)),
      clock_(clock) {}

Result<http::Reply> ServerLease::ask(http::Request request, BootTime until) {
  const BootTime now = clock_.boot_now();
  if (now >= until) return Status(Kind::kLost, "there is no time left for it");
  request.within = std::min<Duration>(kLongestRequest, until - now);
  return requests_.perform(origin_, request);
}

Status ServerLease::change(const http::Request& request, BootTime until) {
  const Result<http::Reply> reply = ask(request, until);
  return (reply.ok() ? protocol_->check(reply.value()) : reply.status()).while_doing(name_);
}

Result<Seen> ServerLease::look(BootTime until) {
  const Result<http::Reply> reply = ask(protocol_->look(), until);
  if (!reply.ok()) return reply.status().while_doing(name_);
  Result<target::DiskLease::Seen> looked = protocol_->read_look(reply.value());
  if (!looked.ok()) return looked.status().while_doing(name_);
  seen_ = std::move(looked.value());
  Seen seen;
  seen.held = seen_.held && !held_;
  seen.version = seen_.version;
  if (seen_.text.empty()) return seen;
  const Result<Record> record = from_json(seen_.text);
  if (!record.ok())
    return Status(Kind::kInvalid, name_ + ": what is kept of the claim beside the disk " +
                                      record.status().text());
  seen.record = record.value();
  return seen;
}

Result<std::optional<BootTime>> ServerLease::take(const Seen&, const Record& record,
                                                  BootTime until) {
  BootTime asked = clock_.boot_now();
  Result<http::Reply> reply = ask(protocol_->acquire(seen_, time_), until);
  // It may have been done; then the server gives it again to the same id.
  if (!reply.ok()) {
    asked = clock_.boot_now();
    reply = ask(protocol_->acquire(seen_, time_), until);
  }
  if (!reply.ok()) return reply.status().while_doing(name_);
  const Result<bool> acquired = protocol_->read_acquire(reply.value());
  if (!acquired.ok()) return acquired.status().while_doing(name_);
  if (!acquired.value()) return std::optional<BootTime>();
  held_ = true;
  const Status written = put(record, until);
  if (written.ok()) return std::optional(asked + time_ - kMargin);
  held_ = false;
  (void)change(protocol_->release(), until).ok();  // else it ends by itself
  return written;
}

Result<BootTime> ServerLease::renew(BootTime until) {
  const BootTime asked = clock_.boot_now();
  const Status status = change(protocol_->renew(), until);
  if (!status.ok()) return status;
  return asked + time_ - kMargin;
}

Status ServerLease::put(const Record& record, BootTime until) {
  return change(protocol_->write(seen_, to_json(record)), until);
}

Status ServerLease::write(const Record& record, BootTime until) { return put(record, until); }

Status ServerLease::let_go(const Record& record, BootTime until) {
  requests_.resume();
  Status status = put(record, until);
  if (status.ok()) status = change(protocol_->release(), until);
  if (status.ok()) held_ = false;
  return status;
}

}  // namespace upload::claim
