// SPDX-License-Identifier: BSD-3-Clause
//
// Each request takes its time before and after the one moment in which it is done.

#include "sim/ledger.h"

#include <algorithm>
#include <utility>

namespace upload::sim {

namespace {

using namespace std::chrono_literals;

const char kRival[] = "rival";

BootTime boot(TimePoint time) { return BootTime(time.time_since_epoch()); }

}  // namespace

class SimLedger final : public claim::Ledger {
 public:
  SimLedger(Ledgers& ledgers, Ledgers::Entry& entry) : ledgers_(ledgers), entry_(entry) {}

  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] Duration renew_every() const override { return Ledgers::kLease / 3; }

  Result<claim::Seen> look(BootTime until) override {
    claim::Seen seen;
    const Status status = ask(until, [&] {
      seen = {entry_.record, entry_.held() && entry_.holder != id_,
              std::to_string(entry_.version)};
    });
    if (!status.ok()) return status;
    return seen;
  }
  Result<std::optional<BootTime>> take(const claim::Seen& seen, const claim::Record& record,
                                       BootTime until) override {
    const TimePoint asked = scheduler().now();
    bool taken = false;
    const Status status = ask(until, [&] {
      taken = !entry_.held() && std::to_string(entry_.version) == seen.version;
      if (!taken) return;
      entry_.holder = record.owner.id;
      entry_.lease_end = scheduler().now() + Ledgers::kLease;
      put(record);
    });
    if (!status.ok()) return status;
    if (!taken) return std::optional<BootTime>();
    id_ = record.owner.id;
    return std::optional(boot(asked + Ledgers::kLease - kMargin));
  }
  Result<BootTime> renew(BootTime until) override {
    const TimePoint asked = scheduler().now();
    bool renewed = false;
    const Status status = ask(until, [&] {
      renewed = is_mine();
      if (renewed) entry_.lease_end = scheduler().now() + Ledgers::kLease;
    });
    if (!status.ok()) return status;
    if (!renewed) return Status(Kind::kClaimLost, "the lease has ended");
    return boot(asked + Ledgers::kLease - kMargin);
  }
  Status write(const claim::Record& record, BootTime until) override {
    return change(record, until, false);
  }
  Status let_go(const claim::Record& record, BootTime until) override {
    return change(record, until, true);
  }

 private:
  [[nodiscard]] bool is_mine() const { return entry_.held() && entry_.holder == id_; }
  // Texts name the owner, and must be the same in each run.
  void put(claim::Record record) {
    record.owner.pid = 1;
    record.owner.host = "sim";
    entry_.record = std::move(record);
    ++entry_.version;
  }
  Status change(const claim::Record& record, BootTime until, bool let_go) {
    bool done = false;
    const Status status = ask(until, [&] {
      done = is_mine();
      if (!done) return;
      put(record);
      if (let_go) entry_.holder.clear();
    });
    if (!status.ok() || done) return status;
    return {Kind::kClaimLost, "the lease has ended"};
  }

  // `done` is the moment.
  template <typename Done>
  Status ask(BootTime until, const Done& done) {
    soak::Random& random = scheduler().random();
    const Duration left = std::max<Duration>(1ms, until - boot(scheduler().now()));
    const auto some = [&] {
      return std::min<Duration>(left, ledgers_.latency * random.below(100) / 100);
    };
    scheduler().sleep(some());
    const bool lost = random.below(1000) < ledgers_.lost;
    const bool away = scheduler().now() < ledgers_.away_until_;
    if (!away && (!lost || random.percent(50))) done();
    if (away || lost) {
      ++ledgers_.faults_;
      scheduler().sleep(std::min<Duration>(left, 3s));
      return {Kind::kLost, "the ledger does not answer"};
    }
    scheduler().sleep(some());
    return {};
  }

  const std::string name_ = "claim=model";
  Ledgers& ledgers_;
  Ledgers::Entry& entry_;
  std::string id_;
};

std::unique_ptr<claim::Ledger> Ledgers::open(const std::string& volume) {
  return std::make_unique<SimLedger>(*this, entries_[volume]);
}

void Ledgers::go_away(Duration time) {
  scheduler().note("the ledger can't be reached");
  ++faults_;
  away_until_ = std::max(away_until_, scheduler().now() + time);
}

void Ledgers::rival_tries(Duration time) {
  for (auto& [volume, entry] : entries_) {
    if (entry.held()) continue;
    scheduler().note("the rival has the claim to %s", volume.c_str());
    ++faults_;
    entry.holder = kRival;
    entry.rival_since = scheduler().now();
    entry.lease_end = scheduler().now() + time;
    const uint64_t generation = entry.record ? entry.record->generation + 1 : 1;
    entry.record = claim::Record{claim::State::kUploading, generation, {"rival", 1, 0, kRival}};
    ++entry.version;
  }
}

bool Ledgers::is_plugins(const std::string& volume) const {
  const auto found = entries_.find(volume);
  return found != entries_.end() && found->second.held() && found->second.holder != kRival;
}

std::optional<TimePoint> Ledgers::rival_since(const std::string& volume) const {
  const auto found = entries_.find(volume);
  return found == entries_.end() ? std::nullopt : found->second.rival_since;
}

}  // namespace upload::sim
