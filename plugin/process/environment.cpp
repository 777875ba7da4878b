// SPDX-License-Identifier: BSD-3-Clause
//
// The monotonic clock, connections by libcurl, and spools in files.

#include "process/environment.h"

#include <memory>
#include <utility>

#include "claim/etcd.h"
#include "claim/lock_file.h"
#include "http/curl_connection.h"
#include "journal/spool_file.h"
#include "process/config.h"

namespace upload {

namespace {

// The members of etcd are reached as the upload server is, but for what is the latter's alone:
// the client certificate, the unix socket, the header fields, the credentials.
std::unique_ptr<claim::Ledger> open_ledger(const Config& config, const std::string& hash,
                                           const http::Connector& connect, Clock& clock) {
  if (!config.claim.directory.empty())
    return std::make_unique<claim::LockFile>(config.claim.directory, hash);
  std::vector<http::Origin> members;
  for (const http::Url& url : config.claim.members) {
    http::Origin& member = members.emplace_back();
    member.url = url;
    member.ca_pem = config.origin.ca_pem;
    member.insecure = config.origin.insecure;
    member.proxy = config.origin.proxy;
  }
  return std::make_unique<claim::Etcd>(std::move(members), hash, config.claim.lease, connect,
                                       clock);
}

}  // namespace

Environment real_environment(std::function<bool(Duration)> sleep_unless_ending) {
  static SteadyClock clock;
  auto addresses = std::make_shared<http::Addresses>();
  const http::Connector connect = [addresses](std::shared_ptr<const http::Origin> origin,
                                              ConnectionId id, http::ConnectionEvents events) {
    return http::make_curl_connection(std::move(origin), addresses, id, std::move(events));
  };
  return {clock, connect,
          [](const std::string& directory,
             const journal::SpoolName& name) -> Result<std::unique_ptr<journal::SpoolPlace>> {
            auto file = journal::SpoolFile::lock(directory, name, clock);
            if (!file.ok()) return file.status();
            return std::unique_ptr<journal::SpoolPlace>(std::move(file.value()));
          },
          std::move(sleep_unless_ending),
          [connect, &clock = clock](const Config& config, const std::string& hash) {
            return open_ledger(config, hash, connect, clock);
          }};
}

}  // namespace upload
