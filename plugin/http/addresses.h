// SPDX-License-Identifier: BSD-3-Clause
//
// Addresses: which addresses a host has, and in which order they are tried. One that is
// dead in front of others would otherwise cost a time-out for each connection that is
// opened. A name is looked up by one thread at a time, for all that want to know, and what was
// found is used for a while, as long as connections can be made: many disks open many, and a
// resolver that is asked by all of them loses questions, each of which then takes seconds.
// Shared by all connections. Thread safe.

#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"

namespace upload::http {

class Addresses {
 public:
  // The addresses of a host, as numbers, IPv6 without brackets, the preferred first; empty:
  // libcurl is to look the name up by itself.
  using Resolve = std::function<Result<std::vector<std::string>>(const std::string& host)>;

  // By getaddrinfo(3), which may take as long as the resolver's own time-outs.
  Addresses();
  // `clock` outlives it.
  Addresses(Resolve resolve, Clock& clock) : resolve_(std::move(resolve)), clock_(clock) {}

  // What is tried one after another: each an address, or one of IPv6 and one of IPv4 to be
  // tried side by side, in the syntax of CURLOPT_RESOLVE(3). The address that worked last
  // is in the first. Looks the name up, unless that was just done. Empty: as for Resolve.
  [[nodiscard]] Result<std::vector<std::string>> attempts(const std::string& host)
      EXCLUDES(mutex_);

  // A connection to this address was made.
  void worked(const std::string& address) EXCLUDES(mutex_);
  // None could be made to any of them: the host may have moved.
  void failed(const std::string& host) EXCLUDES(mutex_);

 private:
  // Of one host.
  struct Known {
    // What the last look-up has found, which may be nothing; empty: none has, or it is no good.
    std::optional<Result<std::vector<std::string>>> found;
    TimePoint when;
    uint64_t lookups = 0;
    bool busy = false;  // somebody is looking it up
  };
  Result<std::vector<std::string>> find(const std::string& host) EXCLUDES(mutex_);
  Result<std::vector<std::string>> look_up_again(const std::string& host) EXCLUDES(mutex_);

  const Resolve resolve_;
  Clock& clock_;
  Mutex mutex_;
  CondVar changed_;                                        // a look-up has ended
  std::map<std::string, Known> known_ GUARDED_BY(mutex_);  // by host; none is ever removed
  std::string last_good_ GUARDED_BY(mutex_);
};

}  // namespace upload::http
