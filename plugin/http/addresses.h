// SPDX-License-Identifier: BSD-3-Clause
//
// Addresses: which addresses a host has, and in which order they are tried. One that is
// dead in front of others would otherwise cost a time-out for each connection that is
// opened. Shared by all connections to an origin. Thread safe.

#pragma once

#include <functional>
#include <string>
#include <vector>

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
  explicit Addresses(Resolve resolve) : resolve_(std::move(resolve)) {}

  // What is tried one after another: each an address, or one of IPv6 and one of IPv4 to be
  // tried side by side, in the syntax of CURLOPT_RESOLVE(3). The address that worked last
  // is in the first. Looks the name up each time. Empty: as for Resolve.
  [[nodiscard]] Result<std::vector<std::string>> attempts(const std::string& host)
      EXCLUDES(mutex_);

  // A connection to this address was made.
  void worked(const std::string& address) EXCLUDES(mutex_);

 private:
  const Resolve resolve_;
  Mutex mutex_;
  std::string last_good_ GUARDED_BY(mutex_);
};

}  // namespace upload::http
