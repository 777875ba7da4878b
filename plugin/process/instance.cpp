// SPDX-License-Identifier: BSD-3-Clause
//
// Wiring. nbdkit forks between discover() and start().

#include "process/instance.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "base/log.h"
#include "base/printable.h"
#include "base/thread.h"
#include "http/authorized_connection.h"

namespace upload {

namespace {

// Servers that are asked side by side at the start.
constexpr size_t kAskedAtOnce = 8;
// Of the names of exports in an error text.
constexpr size_t kMostNames = 20;

// All connections show their origin's credentials.
Environment with_credentials(Environment environment) {
  environment.connect = http::authorized(std::move(environment.connect));
  return environment;
}

}  // namespace

Instance::Instance(const Config& config, Environment environment)
    : config_(config),
      environment_(with_credentials(std::move(environment))),
      clock_(environment_.clock),
      sessions_(config_, environment_),
      disks_(make_disks()) {}

std::vector<std::unique_ptr<Disk>> Instance::make_disks() {
  std::vector<std::unique_ptr<Disk>> disks;
  const auto add = [&](const std::string& name, Config own,
                       const std::shared_ptr<journal::CommonMemory>& common) {
    own.origin.make_credentials = sessions_.credentials_for(own.origin.url);
    disks.push_back(std::make_unique<Disk>(name, std::move(own), common, environment_));
  };
  if (config_.exports.empty()) add("", config_, nullptr);
  // Of the memory half is divided among the disks, but each has enough for a request; the rest
  // is whose turn it is.
  const size_t count = std::max<size_t>(1, config_.exports.size());
  const uint64_t own_replay =
      count == 1 || config_.replay == 0
          ? config_.replay
          : std::max(config_.replay / 2 / count, config_.least_own_replay());
  const auto common = std::make_shared<journal::CommonMemory>(
      config_.replay - std::min(config_.replay, own_replay * count));
  for (const Config::Export& one : config_.exports) {
    Config own = config_;
    own.exports.clear();
    own.origin.url = one.url;
    own.size = one.size;
    own.claim_name = one.claim_name;
    own.replay = own_replay;
    add(one.name, std::move(own), common);
  }
  return disks;
}

Instance::~Instance() { stop(); }

// --- The start ------------------------------------------------------------

Status Instance::discover() {
  std::vector<Status> results = discover_all();
  const auto failed = [](const Status& status) { return !status.ok(); };
  const auto goes_on = [&] {
    return config_.start_any || std::none_of(results.begin(), results.end(), failed);
  };
  if (goes_on()) acquire_claims(results);
  // Only now, as this may write: with each disk's claim, and not for a start that fails.
  for (size_t i = 0; i < disks_.size() && goes_on(); ++i)
    if (disks_[i]->discovered()) results[i] = disks_[i]->prepare();

  const auto first = std::find_if(results.begin(), results.end(), failed);
  if (first == results.end()) return {};
  if (!config_.start_any || std::all_of(results.begin(), results.end(), failed)) {
    let_go_of_claims();
    return *first;
  }
  for (const Status& status : results)
    if (!status.ok())
      log::warning("not started, and tried again when a client opens it (start=any): %s",
                   status.text().c_str());
  return {};
}

// In the order of the disks.
std::vector<Status> Instance::discover_all() {
  std::vector<Status> results(disks_.size());
  if (disks_.size() == 1) {
    results[0] = disks_[0]->discover();
    return results;
  }
  std::atomic<size_t> next = 0;
  std::atomic<bool> failed = false;
  const auto ask = [&] {
    for (size_t i = next++; i < disks_.size(); i = next++) {
      // The first failure ends the start, unless any will do.
      if (failed && !config_.start_any) return;
      results[i] = disks_[i]->discover();
      failed = failed || !results[i].ok();
    }
  };
  std::vector<Thread> threads;
  for (size_t i = 0; i < std::min(kAskedAtOnce, disks_.size()); ++i) threads.emplace_back(ask);
  for (Thread& thread : threads) thread.join();
  return results;
}

// One after the other, in an order that is the same for all processes. Those that are taken are
// renewed while the next is waited for.
void Instance::acquire_claims(std::vector<Status>& results) {
  std::vector<size_t> order;
  for (size_t i = 0; i < disks_.size(); ++i)
    if (disks_[i]->discovered()) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return disks_[a]->claim_order() < disks_[b]->claim_order();
  });
  const auto renew = [&] {
    for (const auto& disk : disks_) disk->renew_claim_if_due();
  };
  for (const size_t i : order) {
    results[i] = disks_[i]->acquire_claim(renew);
    if (!results[i].ok() && !config_.start_any) return;
    renew();
  }
}

// Side by side, since each may take a moment.
void Instance::let_go_of_claims() {
  std::atomic<size_t> next = 0;
  const auto let_go = [&] {
    for (size_t i = next++; i < disks_.size(); i = next++) disks_[i]->let_go_of_claim();
  };
  std::vector<Thread> threads;
  for (size_t i = 1; i < std::min(kAskedAtOnce, disks_.size()); ++i) threads.emplace_back(let_go);
  let_go();
  for (Thread& thread : threads) thread.join();
}

Status Instance::start() {
  for (const auto& disk : disks_)
    if (disk->discovered())
      if (Status status = start_disk(*disk); !status.ok()) return status;
  shutdown_watch_ = std::make_unique<ShutdownWatch>(
      ShutdownWatch::Hooks{environment_.sleep_unless_ending,
                           [this] { return a_server_is_away(); }, [this] { give_up(); }},
      clock_);
  return {};
}

Status Instance::start_disk(Disk& disk) {
  upstream::Upstream* upstream = nullptr;
  {
    MutexLock lock(mutex_);
    upstream = &upstream_of(disk);
  }

  if (Status status = disk.start(upstream->pool(), disks_.size()); !status.ok()) return status;
  MutexLock lock(mutex_);
  running_.push_back(&disk);
  upstream->start_keeper();
  return {};
}

// The smallest limit that any of the tickets names is for all together.
upstream::Upstream& Instance::upstream_of(const Disk& disk) {
  const target::Capabilities& offered = disk.offered();
  const unsigned connections =
      std::min({config_.connections, offered.max_readers, offered.max_writers});
  for (upstream::Upstream& upstream : upstreams_)
    if (upstream.leads_to(*disk.origin())) {
      upstream.pool().lower_limit(connections);
      return upstream;
    }
  return upstreams_.emplace_back(disk.origin(), environment_.connect,
                                 sessions_.shared_for(disk.origin()->url), connections,
                                 disk.offered().traits.persists, config_.idle_timeout, clock_);
}

// --- Serving --------------------------------------------------------------

Result<Disk*> Instance::find(const std::string& name) const {
  if (nameless() || name.empty()) return disks_.front().get();
  for (const auto& disk : disks_)
    if (disk->name() == name) return disk.get();
  std::string known;
  for (size_t i = 0; i < disks_.size() && i < kMostNames; ++i)
    known += (i == 0 ? "" : ", ") + printable(disks_[i]->name());
  if (disks_.size() > kMostNames)
    known += " and " + std::to_string(disks_.size() - kMostNames) + " more";
  return Status(Kind::kInvalid,
                "there is no export '" + printable(name) + "'; there are: " + known);
}

Result<Disk*> Instance::open(const std::string& name) {
  Result<Disk*> disk = find(name);
  if (!disk.ok()) return disk;
  if (Status status = make_ready(*disk.value()); !status.ok()) return status;
  if (config_.access.validate_session)
    if (Status status = disk.value()->volume().validate(); !status.ok()) return status;
  if (Status status = disk.value()->volume().wait_for_leftovers(); !status.ok()) return status;
  return disk;
}

// One that could not be reached at the start; by one client at a time.
Status Instance::make_ready(Disk& disk) {
  {
    MutexLock lock(mutex_);
    while (starting_.count(&disk) > 0) changed_.wait(mutex_);
    if (std::find(running_.begin(), running_.end(), &disk) != running_.end()) return {};
    starting_.insert(&disk);
  }
  Status status = disk.discover();
  if (status.ok()) status = disk.acquire_claim({});
  if (status.ok()) status = disk.prepare();
  if (status.ok()) status = start_disk(disk);
  if (!status.ok()) disk.let_go_of_claim();  // for the next attempt, or another process
  MutexLock lock(mutex_);
  starting_.erase(&disk);
  changed_.notify_all();
  return status;
}

// --- Watching -------------------------------------------------------------

Figures Instance::figures() {
  Figures figures;
  figures.running = !ended_;
  for (Disk* const disk : running()) figures.disks.push_back(disk->figures());
  MutexLock lock(mutex_);
  for (upstream::Upstream& upstream : upstreams_)
    figures.servers.push_back({upstream.name(), upstream.pool().figures()});
  return figures;
}

// --- The end --------------------------------------------------------------

std::vector<Disk*> Instance::running() {
  MutexLock lock(mutex_);
  return running_;
}

// Also one that is just being tried for a client.
bool Instance::a_server_is_away() {
  {
    MutexLock lock(mutex_);
    if (!starting_.empty()) return true;
  }
  const std::vector<Disk*> disks = running();
  return std::any_of(disks.begin(), disks.end(),
                     [](Disk* disk) { return disk->volume().server_is_away(); });
}

void Instance::give_up() {
  std::set<std::string> well;  // origins of disks that go on
  std::vector<const Disk*> given_up;
  for (Disk* const disk : running()) {
    if (!disk->volume().server_is_away()) {
      well.insert(disk->url().origin());
      continue;
    }
    disk->volume().give_up();
    given_up.push_back(disk);
  }
  {
    MutexLock lock(mutex_);
    for (Disk* const disk : starting_) {
      disk->give_up_discovery();
      given_up.push_back(disk);
    }
  }
  for (const Disk* const disk : given_up)
    if (well.count(disk->url().origin()) == 0) sessions_.stop(disk->url());
}

void Instance::stop() {
  if (std::exchange(stopped_, true)) return;
  const std::vector<Disk*> disks = running();
  for (Disk* const disk : disks) disk->volume().wait_until_sent();
  const TimePoint until =
      clock_.now() + std::min(config_.retry_time, ShutdownWatch::kGiveUpAfter);
  for (Disk* const disk : disks)
    disk->volume().wait_for_spool(std::max(Duration::zero(), until - clock_.now()));
  if (shutdown_watch_) shutdown_watch_->stop();
  std::vector<upstream::Upstream*> upstreams;
  {
    MutexLock lock(mutex_);
    for (upstream::Upstream& upstream : upstreams_) upstreams.push_back(&upstream);
  }
  sessions_.stop();
  for (upstream::Upstream* const upstream : upstreams) upstream->request_stop();
  for (Disk* const disk : disks) disk->volume().request_stop();
  for (upstream::Upstream* const upstream : upstreams) upstream->stop();
  for (Disk* const disk : disks) disk->volume().join();
  shutdown_watch_.reset();
  wait_for_late_copies(disks);
  let_go_of_claims();
  ended_ = true;
  if (upload_debug_stats != 0) say_statistics();
}

void Instance::say_statistics() {
  for (const DiskFigures& disk : figures().disks) {
    const std::string which = config_.exports.empty() ? "" : "export " + disk.name + ": ";
    for (const std::string& line : Stats::lines(disk.volume.requests))
      log::notice("%s%s", which.c_str(), line.c_str());
  }
}

// Each disk's server is asked, as what is behind one ticket may be stuck while others are
// served; but no more where nobody answers at all.
void Instance::wait_for_late_copies(const std::vector<Disk*>& disks) {
  std::set<const upstream::Upstream*> silent;
  for (Disk* const disk : disks) {
    if (!disk->needs_time()) continue;
    const upstream::Upstream* upstream = nullptr;
    {
      MutexLock lock(mutex_);
      upstream = &upstream_of(*disk);
    }
    if (silent.count(upstream) == 0 && !disk->ask_server()) silent.insert(upstream);
  }
  for (Disk* const disk : disks)
    if (disk->needs_time()) disk->wait_for_late_copies();
}

}  // namespace upload
