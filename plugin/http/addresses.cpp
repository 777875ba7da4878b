// SPDX-License-Identifier: BSD-3-Clause
//
// Names are looked up here, and not by libcurl, since libcurl 7.88 gives each address half
// of the time that is left: with three dead ones in front of the fourth that is too little
// for TLS. (Addresses of both families it tries side by side, 200 ms apart.)

#include "http/addresses.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <memory>
#include <new>
#include <utility>

namespace upload::http {

namespace {

// Resolvers keep what they know for longer, as a rule.
constexpr Duration kFresh = std::chrono::seconds(60);

bool is_number(const std::string& host) {
  in_addr ipv4;
  return host.starts_with('[') || inet_pton(AF_INET, host.c_str(), &ipv4) == 1;
}

bool is_ipv6(const std::string& address) { return address.find(':') != address.npos; }

Result<std::vector<std::string>> look_up(const std::string& host) {
  using Addresses = std::vector<std::string>;
  // What libcurl may know by another name, it has to look up.
  const bool plain = std::all_of(host.begin(), host.end(), [](char c) { return c > ' '; });
  if (is_number(host) || !plain || host.ends_with('.')) return Addresses();
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error == EAI_MEMORY) throw std::bad_alloc();
  if (error == EAI_AGAIN)
    return Status(Kind::kConnect, "could not look up " + host + ": " + gai_strerror(error));
  if (error != 0) return Addresses();
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(found, freeaddrinfo);
  Addresses addresses;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    std::array<char, NI_MAXHOST> text;
    if (getnameinfo(one->ai_addr, one->ai_addrlen, text.data(), text.size(), nullptr, 0,
                    NI_NUMERICHOST) != 0)
      continue;
    std::string address = text.data();
    // A link-local one, which CURLOPT_RESOLVE can't take.
    if (address.find('%') != address.npos) return Addresses();
    if (std::find(addresses.begin(), addresses.end(), address) == addresses.end())
      addresses.push_back(std::move(address));
  }
  return addresses;
}

Clock& steady_clock() {
  static SteadyClock clock;
  return clock;
}

}  // namespace

Addresses::Addresses() : Addresses(look_up, steady_clock()) {}

Result<std::vector<std::string>> Addresses::attempts(const std::string& host) {
  Result<std::vector<std::string>> found = find(host);
  if (!found.ok()) return found.status();
  std::vector<std::string>& all = found.value();
  {
    MutexLock lock(mutex_);
    const auto good = std::find(all.begin(), all.end(), last_good_);
    if (good != all.end()) std::rotate(all.begin(), good, good + 1);
  }
  // Those of the first one's family, and beside each one of the other family.
  const auto other = std::stable_partition(
      all.begin(), all.end(), [ipv6 = !all.empty() && is_ipv6(all[0])](const std::string& one) {
        return is_ipv6(one) == ipv6;
      });
  const size_t first_family = static_cast<size_t>(other - all.begin());
  const size_t count = std::max(first_family, all.size() - first_family);
  std::vector<std::string> attempts(count);
  for (size_t i = 0; i < all.size(); ++i) {
    std::string& attempt = attempts[i < first_family ? i : i - first_family];
    if (!attempt.empty()) attempt += ',';
    attempt += is_ipv6(all[i]) ? "[" + all[i] + "]" : all[i];
  }
  return attempts;
}

// Whoever waits for another's look-up takes what has come of it, also a failure: they would
// wait for each other's else, one after the other.
Result<std::vector<std::string>> Addresses::find(const std::string& host) {
  {
    MutexLock lock(mutex_);
    Known& known = known_[host];
    const uint64_t before = known.lookups;
    while (known.busy) changed_.wait(mutex_);
    const bool fresh = known.found && known.found->ok() && clock_.now() - known.when < kFresh;
    if (known.found && (fresh || known.lookups != before)) return *known.found;
    known.busy = true;
  }
  return look_up_again(host);
}

Result<std::vector<std::string>> Addresses::look_up_again(const std::string& host) {
  Result<std::vector<std::string>> found = Status(Kind::kNoMemory, "out of memory");
  try {
    found = resolve_(host);
  } catch (const std::bad_alloc&) {
    // All who wait learn it.
  }
  MutexLock lock(mutex_);
  Known& known = known_[host];
  known.busy = false;
  ++known.lookups;
  known.when = clock_.now();
  known.found = found;
  changed_.notify_all();
  return found;
}

void Addresses::worked(const std::string& address) {
  MutexLock lock(mutex_);
  last_good_ = address;
}

void Addresses::failed(const std::string& host) {
  MutexLock lock(mutex_);
  known_[host].found.reset();
}

}  // namespace upload::http
