// SPDX-License-Identifier: BSD-3-Clause
//
// nbdkit forks between discover() and start(): what is made before
// must not be a thread, a connection or an open database that is used after.
// The lock of the spool stays, and is the child's.

#include "process/disk.h"

#include <algorithm>
#include <cinttypes>

#include "base/format.h"
#include "base/log.h"
#include "base/printable.h"
#include "claim/server_lease.h"
#include "target/ask.h"

namespace upload {

namespace {

// A disk that takes longer for a transaction hangs.
constexpr Duration kSlowestDisk = std::chrono::seconds(60);
// Less than what a request costs on most links.
constexpr uint64_t kSmallZero = uint64_t{64} << 10;

}  // namespace

Disk::Disk(std::string name, Config config, std::shared_ptr<journal::CommonMemory> common,
           const Environment& environment)
    : name_(std::move(name)),
      config_(std::move(config)),
      title_((name_.empty() ? "" : "export " + printable(name_) + ", ") +
             config_.origin.url.redacted()),
      common_(std::move(common)),
      environment_(environment),
      clock_(environment.clock) {}

Status Disk::discover() {
  Status status = discover_all();
  ready_ = status.ok();
  if (!ready_) forget_discovery();
  return status;
}

// Another attempt takes the spool's lock again.
void Disk::forget_discovery() {
  ready_ = false;
  spool_place_.reset();
  leftovers_.reset();
}

Status Disk::discover_all() {
  leftovers_.emplace(config_, environment_);
  if (Status status = leftovers_->find(); !status.ok()) return status;
  volume::Retry retry(clock_, volume::Purpose::kRead, {.total = config_.retry_time});
  const TimePoint start = clock_.now();
  for (;;) {
    Status status = discover_volume();
    if (status.ok()) break;
    // A server that was restarted may not know its tickets yet.
    if (status.kind() == Kind::kDenied && clock_.now() - start < config_.denied_wait)
      status = {Kind::kForgotten, status.text()};
    // With leftovers it is an outage like any other.
    const auto when = leftovers_->to_send() ? retry.next(status) : std::nullopt;
    if (!when || given_up_) return status.while_doing(title_);
    if (*when > clock_.now())
      log::warning(
          "%s has changes that are not on the server yet; trying again for up to %lld "
          "seconds: %s",
          leftovers_->path().c_str(), seconds(config_.retry_time), status.text().c_str());
    clock_.sleep_until(*when);
  }
  if (Status status = leftovers_->decide(found_->size); !status.ok()) return status;
  const bool to_send = leftovers_->to_send();
  spool_place_ = leftovers_->take_place();
  if (!to_send) return {};
  if (!found_->capabilities.can_write)
    return {Kind::kInvalid, "the spool " + spool_place_->path() +
                                " has changes that are not on "
                                "the server yet, but the server allows only reading"};
  // Of a disk of this size?
  return open_store(found_->size, false).status();
}

// With target=auto: what the host's name tells, or else the server.
Status Disk::choose_target() {
  const http::Url& url = config_.origin.url;
  target::TargetOptions options{.create = config_.create, .checksum = config_.checksum};
  if (config_.claim.native) options.lease_id = claim::random_guid();
  std::string name = config_.target;
  if (name == "auto") name = target::name_for(url);
  if (name.empty()) {
    const auto origin = std::make_shared<http::Origin>(config_.origin);
    const auto connection = environment_.connect(origin, 0, {});
    const Result<http::Reply> reply = connection->perform(target::who_are_you(url));
    if (!reply.ok()) return reply.status();
    name = target::name_by(reply.value());
  }
  if (Status status = target::check_options(name, options); !status.ok()) return status;
  target_ = target::make_target(name, url, options);
  if (!config_.timeout_given) config_.origin.timeout = target_->default_timeout();
  return {};
}

Status Disk::discover_volume() {
  if (!target_)
    if (Status status = choose_target(); !status.ok()) return status;
  Result<volume::Discovery> found =
      volume::discover(*target_, config_.origin, environment_.connect, config_.auto_socket,
                       config_.size, config_.direct);
  if (!found.ok()) return found.status();
  found_ = std::make_unique<volume::Discovery>(std::move(found.value()));
  return {};
}

Result<std::unique_ptr<journal::Store>> Disk::open_store(uint64_t size, bool verify) {
  return spool_place_->open(config_.origin.url.redacted(), size, verify);
}

// Again, since a database must not be taken through a fork.
Result<std::shared_ptr<journal::Spool>> Disk::open_spool() {
  if (!spool_place_) return std::shared_ptr<journal::Spool>();
  auto store = open_store(found_->size, false);
  if (!store.ok()) return store.status();
  auto rows = store.value()->rows();
  if (!rows.ok()) return rows.status();
  if (!rows.value().empty())
    log::warning(
        "%s: %zu changes that an earlier run has left in the spool %s, the last at %s, "
        "are sent first",
        title_.c_str(), rows.value().size(), spool_place_->path().c_str(),
        time_text(store.value()->about().changed_at).c_str());
  return std::make_shared<journal::Spool>(std::move(spool_place_), std::move(store.value()),
                                          std::move(rows.value()), clock_,
                                          std::max(config_.retry_time, kSlowestDisk));
}

// --- The claim ------------------------------------------------------------

std::string Disk::claim_order() const {
  return claim::hash_of(config_.claim_name, config_.origin.url);
}

Result<std::unique_ptr<claim::Ledger>> Disk::open_ledger() {
  if (!config_.claim.native) return environment_.open_ledger(config_, claim_order());
  std::unique_ptr<target::DiskLease> lease = target_->lease();
  if (!lease) return Status(Kind::kInvalid, "claim=lease: this target has no leases");
  const Duration time = config_.claim.lease;
  if (time < lease->shortest() || time > lease->longest())
    return Status(
        Kind::kInvalid,
        format("claim-lease=%lld: a lease of this target lasts from %lld to %lld seconds",
               seconds(time), seconds(lease->shortest()), seconds(lease->longest())));
  return std::unique_ptr<claim::Ledger>(std::make_unique<claim::ServerLease>(
      std::move(lease), *origin(), time, environment_.connect, clock_));
}

Status Disk::acquire_claim(const std::function<void()>& meanwhile) {
  if (!config_.claim.wanted() || !offered().can_write) return {};
  Result<std::unique_ptr<claim::Ledger>> ledger = open_ledger();
  if (!ledger.ok()) return ledger.status().while_doing(title_);
  claim_ = std::make_unique<claim::Claim>(
      std::move(ledger.value()), claim::Claim::Options{config_.claim.wait, config_.claim.steal},
      clock_);
  const Status status = claim_->acquire(environment_.sleep_unless_ending, meanwhile);
  if (status.ok()) return status;
  claim_.reset();
  forget_discovery();
  return status.while_doing(title_);
}

void Disk::renew_claim_if_due() {
  if (claim_) claim_->renew_if_due();
}

void Disk::let_go_of_claim() {
  if (!claim_) return;
  claim_->stop();
  const Status status = claim_->let_go(claim_state());
  if (!status.ok())
    log::warning("%s: the claim could not be given back: %s", title_.c_str(),
                 status.text().c_str());
}

// A client that is still there may have more to write; nothing: as it was.
std::optional<claim::State> Disk::claim_state() {
  if (!volume_) return std::nullopt;
  const volume::Volume::Outcome outcome = volume_->outcome();
  if (outcome == volume::Volume::Outcome::kUntouched) return std::nullopt;
  const bool complete = outcome == volume::Volume::Outcome::kFlushed && !clients_.any() &&
                        !volume_->late_copies_may_come();
  return complete ? claim::State::kComplete : claim::State::kFailed;
}

Status Disk::prepare() {
  const Status status = volume::prepare(*target_, *found_, environment_.connect,
                                        claim_ ? &claim_->fence() : nullptr);
  if (status.ok()) return status;
  let_go_of_claim();
  claim_.reset();
  forget_discovery();
  return status.while_doing(title_);
}

// --- The volume -----------------------------------------------------------

Status Disk::start(upstream::Pool& pool, size_t disks) {
  volume::VolumeOptions volume;
  volume.name = title_;
  volume.target = target_;
  volume.capabilities = offered();
  volume.size = found_->size;
  const target::Traits& traits = offered().traits;
  volume.limits = {.max_request = std::min(config_.max_request, traits.max_write),
                   .max_zero = offered().can_zero ? traits.max_zero
                                                  : std::min(traits.max_zero, traits.max_write),
                   .small_zero = kSmallZero,
                   .zero_is_data = !offered().can_zero,
                   .block = traits.alignment};
  volume.replay = config_.replay;
  volume.common_replay = common_;
  volume.write_back = config_.write_back;
  volume.retry_time = config_.retry_time;
  volume.denied_wait = config_.denied_wait;
  volume.late = config_.origin.timeout;
  volume.longest_attempt = config_.origin.connect_timeout + 2 * config_.origin.timeout;
  volume.turns = static_cast<int>((disks + pool.limit() - 1) / pool.limit());
  Result<std::shared_ptr<journal::Spool>> spool = open_spool();
  if (!spool.ok()) return spool.status();
  volume.spool = std::move(spool.value());
  volume.unclean_start = leftovers_->unclean();
  volume.spool_size = config_.spool_size.value_or(UINT64_MAX);
  volume.spool_local = config_.spool_local;
  if (claim_) volume.fence = &claim_->fence();
  description_ = config_.origin.url.host + format(", %" PRIu64 " bytes", found_->size);
  volume_ = std::make_unique<volume::Volume>(std::move(volume), pool, clock_, stats_);
  if (claim_) claim_->start([this](const Status& lost) { volume_->claim_lost(lost); });
  UPLOAD_DEBUG(pool, "%s: %s; at most %u connections to %s; stable on %s; zero %d, extents %d",
               title_.c_str(), offered().can_write ? "writable" : "read-only", pool.limit(),
               origin()->name().c_str(),
               offered().traits.durability == target::Durability::kOnFlush ? "flush" : "reply",
               offered().can_zero, offered().can_extents);
  return {};
}

DiskFigures Disk::figures() const {
  DiskFigures figures;
  figures.name = name_.empty() ? title_ : name_;
  figures.volume = volume_->figures();
  if (claim_) {
    ClaimFigures& claim = figures.claim.emplace();
    const BootTime until = claim_->fence().until();
    claim.held = claim_->fence().open();
    if (claim.held && until != BootTime::max()) claim.left = until - clock_.boot_now();
  }
  return figures;
}

// --- The end --------------------------------------------------------------

// Whoever starts next does not know which requests have failed and may yet be
// applied by the server. Only a spool can tell; else that is waited for.
bool Disk::needs_time() { return volume_->late_copies_may_come() && !volume_->keep_spool(); }

bool Disk::ask_server() {
  constexpr Duration kAskFor = std::chrono::seconds(2);
  auto origin = std::make_shared<http::Origin>(*found_->origin);
  origin->connect_timeout = std::min(origin->connect_timeout, kAskFor);
  origin->timeout = std::min(origin->timeout, kAskFor);
  volume::Retry retry(clock_, volume::Purpose::kRead, {.total = kAskFor});
  for (;;) {
    const TimePoint start = clock_.now();
    const auto connection = environment_.connect(origin, 0, {});
    bool answered = false;
    http::Request question = target_->inquire();
    if (claim_) question.fence = &claim_->fence();
    const Status status = target::ask(*connection, question, [&](const http::Reply& reply) {
      answered = true;
      return target_->read_offer(reply).status();
    });
    // Any answer to this question will do, but one that a proxy may give.
    if (answered && (status.ok() || !retry.worthwhile(status))) {
      volume_->note_answer(start);
      return true;
    }
    const std::optional<TimePoint> when = retry.next(status);
    if (!when) return false;
    clock_.sleep_until(*when);
  }
}

void Disk::wait_for_late_copies() {
  const std::optional<TimePoint> until = volume_->late_copies_may_come();
  if (!until) return;
  if (*until == volume::LateCopies::kUnknown) {
    log::warning(
        "%s: the server does not answer, and may still apply requests that have failed; "
        "do not write to the disk again before it has been back for %lld seconds "
        "(timeout=)",
        title_.c_str(), seconds(config_.origin.timeout));
    return;
  }
  log::warning(
      "%s: waiting for up to %lld seconds (timeout=): until then the server may apply "
      "requests that have failed, and would overwrite what the next upload writes",
      title_.c_str(), seconds(*until - clock_.now()) + 1);
  clock_.sleep_until(*until);
}

}  // namespace upload
