// SPDX-License-Identifier: BSD-3-Clause
//
// The policy of claims, and the thread that renews one. The thread sleeps until a renewal is due
// or the fence is reached, whichever comes first. A renewal that fails is tried again every
// second until then. The volume never waits for any of it: requests look at the fence only.

#include "claim/claim.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace upload::claim {

namespace {

// Between two looks at another's claim, and after a renewal that has failed.
constexpr Duration kPause = std::chrono::seconds(1);
// For one look, and for the last write.
constexpr Duration kLongestLook = std::chrono::seconds(10);
constexpr Duration kLongestEnd = std::chrono::seconds(3);
// Of looks that find another state each time.
constexpr int kMostTries = 100;

}  // namespace

Claim::Claim(std::unique_ptr<Ledger> ledger, const Options& options, Clock& clock)
    : ledger_(std::move(ledger)),
      options_(options),
      clock_(clock),
      fence_(clock),
      self_(this_process(clock)) {}

Claim::~Claim() { stop(); }

// --- Taking it ------------------------------------------------------------

Status Claim::acquire(const Sleep& sleep_unless_ending, const std::function<void()>& meanwhile) {
  const BootTime end = clock_.boot_now() + options_.wait;
  bool said = false;
  for (;;) {
    const Attempt attempt = try_once();
    const BootTime now = clock_.boot_now();
    if (attempt.status.ok() || !attempt.may_pass || now >= end) return attempt.status;
    if (!std::exchange(said, true))
      log::warning("waiting for up to %lld seconds (claim-wait=): %s", seconds(end - now) + 1,
                   attempt.status.text().c_str());
    if (meanwhile) meanwhile();
    if (sleep_unless_ending(std::min<Duration>(kPause, end - now)))
      return attempt.status.while_doing("nbdkit is to end");
  }
}

Claim::Attempt Claim::try_once() {
  const BootTime until = clock_.boot_now() + kLongestLook;
  for (int tries = 0; tries < kMostTries; ++tries) {
    const TimePoint start = clock_.now();
    const Result<Seen> looked = ledger_->look(until);
    if (!looked.ok()) return {looked.status(), looked.status().kind() != Kind::kInvalid};
    const Seen& seen = looked.value();
    if (Status refused = refusal(seen); !refused.ok()) return {refused, seen.held};
    const Record before = seen.record.value_or(Record{});
    const Record taking{before.state, before.generation + 1, self_};
    const Result<std::optional<BootTime>> taken = ledger_->take(seen, taking, until);
    if (!taken.ok()) return {taken.status(), taken.status().kind() != Kind::kInvalid};
    if (!taken.value()) continue;  // somebody else was faster
    before_ = seen.record;
    generation_ = taking.generation;
    renewal_due_ = start + ledger_->renew_every();
    if (!fence_.open_until(*taken.value()) || !fence_.open())
      return {{Kind::kClaimLost, name() + ": the claim ran out while it was taken"}};
    UPLOAD_DEBUG(claim, "%s: taken, generation %llu", name().c_str(),
                 static_cast<unsigned long long>(generation_));
    return {};
  }
  return {{Kind::kClaimed, name() + ": others take the claim and give it back all the time"},
          true};
}

// ok(): the claim may be taken.
Status Claim::refusal(const Seen& seen) const {
  const auto refused = [&](const std::string& why) {
    return Status(Kind::kClaimed, name() + ": " + why);
  };
  if (seen.held && !seen.record)
    return refused("another process has the claim, and has not said yet who it is");
  if (!seen.record) return {};
  const std::string owner = describe(seen.record->owner);
  if (seen.held) return refused("another uploads to this disk: " + owner);
  if (options_.steal) return {};
  switch (seen.record->state) {
    case State::kAvailable: break;
    case State::kUploading:
      return refused(
          "an upload to this disk was begun and has not ended, and its process does "
          "not have the claim any more: " +
          owner + "; claim-steal=true takes it over");
    case State::kComplete:
      return refused("an upload to this disk is complete: " + owner +
                     "; claim-steal=true uploads to it again");
    case State::kFailed:
      return refused("an upload to this disk has failed: " + owner +
                     "; claim-steal=true takes it over");
  }
  return {};
}

// --- Keeping it -----------------------------------------------------------

void Claim::renew_if_due() {
  if (generation_ > 0 && clock_.now() >= renewal_due_) renew();
}

void Claim::start(std::function<void(const Status&)> lost) {
  lost_ = std::move(lost);
  self_.pid = getpid();  // nbdkit has forked
  Status status = fence_.check();
  if (status.ok())
    status = ledger_->write({State::kUploading, generation_, self_},
                            std::min(fence_.until(), clock_.boot_now() + kLongestLook));
  if (!status.ok()) return lose("the claim was lost at the start: " + status.text());
  thread_ = Thread([this] { run(); });
}

void Claim::run() {
  do {
    MutexLock lock(mutex_);
    while (!stopping_ && clock_.now() < next_look())
      clock_.wait_until(stop_requested_, mutex_, next_look());
    if (stopping_) return;
  } while (renew());
}

// When a renewal is due, or the fence is reached.
TimePoint Claim::next_look() const {
  if (fence_.until() == BootTime::max()) return renewal_due_;
  return std::min(renewal_due_, clock_.now() + (fence_.until() - clock_.boot_now()));
}

// False: the claim is lost.
bool Claim::renew() {
  const TimePoint start = clock_.now();
  if (fence_.open()) {
    const Result<BootTime> renewed = ledger_->renew(fence_.until());
    if (renewed.ok() && fence_.open_until(renewed.value())) {
      renewal_due_ = start + ledger_->renew_every();
      UPLOAD_DEBUG(claim, "%s: renewed", name().c_str());
      return true;
    }
    if (!renewed.ok() && renewed.status().kind() == Kind::kClaimLost) {
      lose("the claim was lost: " + renewed.status().text());
      return false;
    }
    failure_ = renewed.status();
    renewal_due_ = clock_.now() + kPause;
    UPLOAD_DEBUG(claim, "%s: not renewed: %s", name().c_str(), failure_.text().c_str());
    if (fence_.open()) return true;
  }
  lose("the claim ran out before it was renewed" +
       (failure_.ok() ? "" : ", which failed: " + failure_.text()));
  return false;
}

// The fence first: who has taken the claim is of interest, but takes time to learn.
void Claim::lose(const std::string& why) {
  fence_.close(name() + ": " + why);
  if (const std::string other = taken_by(); !other.empty())
    fence_.close(name() + ": the claim was lost to " + other);
  renewal_due_ = TimePoint::max();
  if (lost_) lost_(fence_.check());
}

// Empty: nobody, or it can't be known.
std::string Claim::taken_by() {
  const Result<Seen> seen = ledger_->look(clock_.boot_now() + kPause);
  if (!seen.ok() || !seen.value().record) return "";
  const Owner& owner = seen.value().record->owner;
  return owner.id == self_.id ? "" : describe(owner);
}

// --- The end --------------------------------------------------------------

void Claim::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    stop_requested_.notify_all();
  }
  ledger_->interrupt();
  if (thread_.joinable()) thread_.join();
}

Status Claim::let_go(std::optional<State> state) {
  if (generation_ == 0) return {};
  if (Status status = fence_.check(); !status.ok()) return status;
  Record record = state ? Record{*state, 0, self_} : before_.value_or(Record{});
  record.generation = generation_;
  Status status =
      ledger_->let_go(record, std::min(fence_.until(), clock_.boot_now() + kLongestEnd));
  fence_.close(name() + ": the claim was given back");
  generation_ = 0;
  return status;
}

}  // namespace upload::claim
