// SPDX-License-Identifier: BSD-3-Clause
//
// Etcd: a ledger in an etcd cluster, for the processes of any host. It speaks etcd's JSON over
// HTTP (https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/).
//
// Two keys for each volume, below /nbdkit-upload/claims/HASH/:
//
//   holder   who has the claim now: the random id of its record's owner. Bound to a lease, so
//            that it goes when nobody has renewed that for its time
//   record   the record; bound to nothing, so that it tells what was left
//
// Both change together, in one transaction that compares them with what was seen before.
//
// A request has a connection of its own: there is one in ten seconds, and none must go through
// nbdkit's fork. Members that fail are passed over; the one that answered last is asked first.

#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "claim/ledger.h"
#include "http/origin.h"
#include "http/single_requests.h"

namespace upload::claim {

class Etcd final : public Ledger {
 public:
  // At least one member, of one cluster; `lease`: whole seconds, from 10. `clock` outlives it.
  Etcd(std::vector<http::Origin> members, const std::string& hash, Duration lease,
       http::Connector connect, Clock& clock);

  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] Duration renew_every() const override { return lease_ / 3; }

  Result<Seen> look(BootTime until) override;
  Result<std::optional<BootTime>> take(const Seen& seen, const Record& record,
                                       BootTime until) override;
  Result<BootTime> renew(BootTime until) override;
  Status write(const Record& record, BootTime until) override;
  Status let_go(const Record& record, BootTime until) override;
  void interrupt() override { requests_.interrupt(); }

 private:
  // What is under the two keys.
  struct Keys;

  Result<nlohmann::json> post(const std::string& path, const nlohmann::json& question,
                              BootTime until);
  Result<nlohmann::json> post_to(size_t member, const http::Request& request);
  [[nodiscard]] Result<nlohmann::json> read_reply(size_t member, const http::Reply& reply);
  Result<Keys> read_keys(BootTime until);
  Result<BootTime> grant(BootTime until);
  void revoke(BootTime until);
  Status change(const Record& record, bool let_go, BootTime until);
  [[nodiscard]] nlohmann::json put(const std::string& key, const std::string& value) const;
  [[nodiscard]] BootTime good_until(BootTime asked, const std::string& seconds) const;
  [[nodiscard]] Status malformed(const std::string& why) const;

  const std::string name_;
  const std::vector<std::shared_ptr<const http::Origin>> members_;
  const std::string holder_key_;
  const std::string record_key_;
  const Duration lease_;
  http::SingleRequests requests_;
  Clock& clock_;

  size_t current_ = 0;    // the member that answered last
  std::string cluster_;   // its number; empty: not known yet
  std::string lease_id_;  // empty: there is none
  std::string own_id_;    // under holder_key_, once it is taken
};

}  // namespace upload::claim
