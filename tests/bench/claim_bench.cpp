// SPDX-License-Identifier: BSD-3-Clause
//
// What a claim costs, and that nobody gets it twice: threads that take and give back the claims
// of some volumes, over the plugin's own ledgers or etcd's own locks.
//
//   claim-bench file DIR ROWS WORKERS TIMES
//   claim-bench etcd|lock URL,URL,... ROWS WORKERS TIMES
//   claim-bench lease URL-OF-A-CONTAINER ROWS WORKERS TIMES   (Azure; the account and its key are
//                            in AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY)
//
// Each of ROWS volumes has WORKERS threads, each of which takes its claim TIMES times. It prints
// one line: seconds in all; of taking, attempts and failures in between included, and of giving
// back, in milliseconds, the smallest, the mean, the largest and the standard deviation; attempts
// that found another; double grants.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/redact.h"
#include "claim/etcd.h"
#include "claim/lock_file.h"
#include "claim/server_lease.h"
#include "http/authorized_connection.h"
#include "http/credentials.h"
#include "http/curl_connection.h"
#include "target/target.h"

using namespace std::chrono_literals;
using namespace upload;
using claim::Ledger;

namespace {

[[noreturn]] void fail(const std::string& why) {
  fprintf(stderr, "claim-bench: %s\n", why.c_str());
  exit(1);
}

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

// Of one thread, then of all.
struct Tally {
  std::vector<double> taking;  // ms
  std::vector<double> giving;
  uint64_t conflicts = 0;
};

// One thread's way to a claim.
class Taker {
 public:
  virtual ~Taker() = default;
  // Returns when it has it; counts the attempts that found another.
  virtual void take(uint64_t& conflicts) = 0;
  virtual void give_back() = 0;
};

class LedgerTaker final : public Taker {
 public:
  LedgerTaker(std::unique_ptr<Ledger> ledger, Clock& clock)
      : ledger_(std::move(ledger)), clock_(clock) {}

  void take(uint64_t& conflicts) override {
    for (;; ++conflicts) {
      const BootTime until = clock_.boot_now() + 60s;
      const Result<claim::Seen> seen = ledger_->look(until);
      if (!seen.ok()) fail(seen.status().text());
      if (!seen.value().held) {
        const claim::Record before = seen.value().record.value_or(claim::Record());
        record_ = {claim::State::kUploading, before.generation + 1, claim::this_process(clock_)};
        const auto taken = ledger_->take(seen.value(), record_, until);
        if (!taken.ok()) fail(taken.status().text());
        if (taken.value()) return;
      }
      std::this_thread::sleep_for(20ms);
    }
  }
  void give_back() override {
    record_.state = claim::State::kComplete;
    const Status status = ledger_->let_go(record_, clock_.boot_now() + 60s);
    if (!status.ok()) fail(status.text());
  }

 private:
  const std::unique_ptr<Ledger> ledger_;
  Clock& clock_;
  claim::Record record_;
};

// etcd's own: /v3/lock/lock waits until the lock is ours.
class EtcdLockTaker final : public Taker {
 public:
  EtcdLockTaker(http::Origin member, std::string name, http::Connector connect)
      : member_(std::make_shared<http::Origin>(std::move(member))),
        name_(std::move(name)),
        connect_(std::move(connect)) {}

  void take(uint64_t&) override {
    lease_ = post("/v3/lease/grant", {{"TTL", "60"}}).at("ID");
    key_ = post("/v3/lock/lock", {{"name", base64(name_)}, {"lease", lease_}}).at("key");
  }
  void give_back() override {
    post("/v3/lock/unlock", {{"key", key_}});
    post("/v3/lease/revoke", {{"ID", lease_}});
  }

 private:
  nlohmann::json post(const std::string& path, const nlohmann::json& question) {
    http::Request request;
    request.method = http::Method::kPost;
    request.target = path;
    request.text = question.dump();
    request.what = path;
    const auto reply = connect_(member_, 0, {})->perform(request);
    if (!reply.ok()) fail(reply.status().text());
    if (reply.value().status != 200) fail(path + ": " + reply.value().body);
    return nlohmann::json::parse(reply.value().body);
  }

  const std::shared_ptr<const http::Origin> member_;
  const std::string name_;
  const http::Connector connect_;
  std::string lease_;
  std::string key_;
};

std::vector<http::Origin> members_of(const std::string& list) {
  std::vector<http::Origin> members;
  for (size_t at = 0; at < list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    auto url = http::parse_url(list.substr(at, end - at) + "/v3");
    if (!url.ok()) fail("the URL " + url.status().text());
    members.emplace_back().url = url.value();
    at = end + 1;
  }
  return members;
}

// A lease of a blob in the container of that URL, both of which are made if they are not there.
std::unique_ptr<Ledger> blob_lease(const std::string& container, const std::string& name,
                                   const http::Connector& connect, Clock& clock) {
  const char* const account = getenv("AZURE_STORAGE_ACCOUNT");
  const char* const key = getenv("AZURE_STORAGE_KEY");
  const auto url = http::parse_url(container + "/" + name);
  if (!url.ok() || account == nullptr || key == nullptr)
    fail("lease needs the URL of a container, AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY");
  http::Origin origin;
  origin.url = url.value();
  origin.make_credentials = [credential = target::make_signature("azure", account, key, clock)] {
    return std::make_shared<http::FixedCredentials>(credential);
  };
  const http::Connector authorized = http::authorized(connect);
  const auto blob = target::make_target("azure", url.value(),
                                        {.create = true, .lease_id = claim::random_guid()});
  http::Request make_container = *blob->create(512);
  make_container.target =
      origin.url.path.substr(0, origin.url.path.rfind('/')) + "?restype=container";
  for (const http::Request& request : {make_container, *blob->create(512)}) {
    const auto reply =
        authorized(std::make_shared<http::Origin>(origin), 0, {})->perform(request);
    if (!reply.ok()) fail(reply.status().text());
    if (reply.value().status != 201 && reply.value().status != 409) fail(reply.value().body);
  }
  return std::make_unique<claim::ServerLease>(blob->lease(), origin, 60s, authorized, clock);
}

void work(Taker& taker, unsigned times, std::atomic<int>& holders, std::atomic<uint64_t>& doubles,
          Tally& tally) {
  for (unsigned i = 0; i < times; ++i) {
    auto start = std::chrono::steady_clock::now();
    taker.take(tally.conflicts);
    tally.taking.push_back(milliseconds_since(start));
    if (++holders != 1) ++doubles;
    --holders;
    start = std::chrono::steady_clock::now();
    taker.give_back();
    tally.giving.push_back(milliseconds_since(start));
  }
}

void print(std::vector<double>& all) {
  double sum = 0;
  double squares = 0;
  for (const double each : all) sum += each;
  const double mean = sum / static_cast<double>(all.size());
  for (const double each : all) squares += (each - mean) * (each - mean);
  printf(" %.2f / %.2f / %.0f / %.1f |", *std::min_element(all.begin(), all.end()), mean,
         *std::max_element(all.begin(), all.end()),
         std::sqrt(squares / static_cast<double>(all.size())));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) fail("see the head of tests/bench/claim_bench.cpp");
  const std::string way = argv[1];
  const std::string where = argv[2];
  const auto rows = static_cast<unsigned>(atoi(argv[3]));
  const auto workers = static_cast<unsigned>(atoi(argv[4]));
  const auto times = static_cast<unsigned>(atoi(argv[5]));
  if (!http::global_init().ok() || rows * workers * times == 0) fail("nothing to do");
  SteadyClock clock;
  const auto addresses = std::make_shared<http::Addresses>();
  const http::Connector connect = [&](std::shared_ptr<const http::Origin> origin, ConnectionId id,
                                      http::ConnectionEvents events) {
    return http::make_curl_connection(std::move(origin), addresses, id, std::move(events));
  };
  const std::string run = std::to_string(getpid()) + "-";
  const auto taker = [&](unsigned row, unsigned worker) -> std::unique_ptr<Taker> {
    const std::string name = claim::hash_of(run + std::to_string(row), {});
    if (way == "file")
      return std::make_unique<LedgerTaker>(std::make_unique<claim::LockFile>(where, name), clock);
    if (way == "lease")
      return std::make_unique<LedgerTaker>(blob_lease(where, name, connect, clock), clock);
    std::vector<http::Origin> members = members_of(where);
    // Not all to the first.
    std::rotate(members.begin(), members.begin() + worker % members.size(), members.end());
    if (way == "lock") return std::make_unique<EtcdLockTaker>(members[0], name, connect);
    return std::make_unique<LedgerTaker>(
        std::make_unique<claim::Etcd>(members, name, 60s, connect, clock), clock);
  };
  std::vector<std::atomic<int>> holders(rows);
  std::atomic<uint64_t> doubles = 0;
  Tally all;
  std::mutex mutex;
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < rows * workers; ++i)
    threads.emplace_back([&, row = i % rows, worker = i / rows] {
      const auto mine = taker(row, worker);
      Tally tally;
      work(*mine, times, holders[row], doubles, tally);
      const std::lock_guard<std::mutex> lock(mutex);
      all.taking.insert(all.taking.end(), tally.taking.begin(), tally.taking.end());
      all.giving.insert(all.giving.end(), tally.giving.begin(), tally.giving.end());
      all.conflicts += tally.conflicts;
    });
  for (std::thread& thread : threads) thread.join();
  printf("| %s | %u x %u | %.1f |", way.c_str(), rows, workers, milliseconds_since(start) / 1000);
  print(all.taking);
  print(all.giving);
  printf(" %llu | %llu |\n", static_cast<unsigned long long>(all.conflicts),
         static_cast<unsigned long long>(doubles));
  return doubles == 0 ? 0 : 1;
}
