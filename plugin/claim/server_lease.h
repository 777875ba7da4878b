// SPDX-License-Identifier: BSD-3-Clause
//
// ServerLease: a ledger at the upload server itself, where its protocol has leases
// (target/disk_lease.h). It works for the processes of any host, and the server refuses what
// somebody sends whose lease has ended.
//
// Each request has a connection of its own, as none must go through nbdkit's fork.

#pragma once

#include <memory>
#include <string>

#include "claim/ledger.h"
#include "http/origin.h"
#include "http/single_requests.h"
#include "target/disk_lease.h"

namespace upload::claim {

class ServerLease final : public Ledger {
 public:
  // `protocol` is not null; `time`: of the lease, within its bounds. Connections to `origin` show its
  // credentials. `clock` outlives the ledger.
  ServerLease(std::unique_ptr<target::DiskLease> protocol, const http::Origin& origin,
              Duration time, http::Connector connect, Clock& clock);

  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] Duration renew_every() const override { return time_ / 3; }

  Result<Seen> look(BootTime until) override;
  Result<std::optional<BootTime>> take(const Seen& seen, const Record& record,
                                       BootTime until) override;
  Result<BootTime> renew(BootTime until) override;
  Status write(const Record& record, BootTime until) override;
  Status let_go(const Record& record, BootTime until) override;
  void interrupt() override { requests_.interrupt(); }

 private:
  Result<http::Reply> ask(http::Request request, BootTime until);
  Status change(const http::Request& request, BootTime until);
  Status put(const Record& record, BootTime until);

  const std::string name_ = "claim=lease";
  const std::unique_ptr<target::DiskLease> protocol_;
  const std::shared_ptr<const http::Origin> origin_;
  const Duration time_;
  http::SingleRequests requests_;
  Clock& clock_;

  target::DiskLease::Seen seen_;  // by the last look
  bool held_ = false;             // by us
};

}  // namespace upload::claim
