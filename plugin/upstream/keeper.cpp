// SPDX-License-Identifier: BSD-3-Clause
//
// The keeper's loop. It sleeps until the connection that has been idle for
// longest, or the ticket that was not used for longest, is due, less up to a tenth of the idle
// time-out at random, lest the keepers of many processes flush in step. What is used
// is due later, so nobody needs to wake the keeper but to stop it.
//
// Each request has a thread for as long as it takes: it may last, and the loop must not.
//
// What failures mean is not known here: a client's keep_alive() reports its own, and a login
// that fails is told to whoever needs it.

#include "upstream/keeper.h"

#include <algorithm>
#include <memory>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "base/random.h"

namespace upload::upstream {

namespace {

constexpr Duration kLasts = std::chrono::seconds(1);

}  // namespace

Keeper::Keeper(Pool& pool, std::shared_ptr<login::Session> session, Duration idle_timeout,
               Clock& clock)
    : pool_(pool),
      session_(std::move(session)),
      idle_timeout_(idle_timeout),
      patience_(std::min(kLasts, idle_timeout / 10)),
      clock_(clock),
      thread_([this] { run(); }) {}

Keeper::~Keeper() {
  request_stop();
  join();
}

void Keeper::request_stop() {
  MutexLock lock(mutex_);
  stop_ = true;
  changed_.notify_all();
}

void Keeper::join() {
  if (thread_.joinable()) thread_.join();
}

bool Keeper::stopping() {
  MutexLock lock(mutex_);
  return stop_;
}

void Keeper::run() {
  UPLOAD_DEBUG(keeper, "keeper: started");
  for (;;) {
    const TimePoint next = keep_due_alive();
    MutexLock lock(mutex_);
    while (!stop_ && clock_.now() < next) clock_.wait_until(changed_, mutex_, next);
    if (stop_) break;
  }
  join_jobs(true);
  UPLOAD_DEBUG(keeper, "keeper: stopped");
}

TimePoint Keeper::keep_due_alive() {
  const Duration due_after = this->due_after();
  const TimePoint now = clock_.now();
  // First: the requests below show it.
  if (session_ && session_->renewal_due() && *session_->renewal_due() <= now)
    start([this] { session_->renew(); });
  // At most one round: a connection served is idle since now, and one that nobody could
  // serve is not tried twice.
  for (unsigned i = 0; i < pool_.limit() && !stopping(); ++i) {
    std::optional<Lease> lease = pool_.lease_idle(now - due_after);
    if (!lease) break;
    start([this, lease = std::make_shared<Lease>(std::move(*lease))] {
      keep_connection(*lease);
      lease->give_back();
    });
  }
  const std::vector<Share*> shares = pool_.shares();
  for (Share* const share : shares) {
    if (stopping() || used(*share) > now - due_after || !begin(*share)) continue;
    start([this, share] {
      keep_ticket(*share);
      end(*share);
    });
  }
  TimePoint next = now + due_after;
  if (const auto idle_since = pool_.idle_since()) next = std::min(next, *idle_since + due_after);
  for (const Share* const share : shares) next = std::min(next, used(*share) + due_after);
  if (const auto renewal = session_ ? session_->renewal_due() : std::nullopt)
    next = std::min(next, *renewal);
  // What is due and could not be served waits for others' requests to end.
  return next > now ? next : now + patience_;
}

void Keeper::keep_connection(Lease& lease) {
  const auto id = static_cast<unsigned long long>(lease.id());
  if (lease.closed()) {
    UPLOAD_DEBUG(keeper, "keeper: connection %llu was closed by the server", id);
    lease.retire(lease.why_closed());
    return;
  }
  UPLOAD_DEBUG(keeper, "keeper: connection %llu is idle, keeping it alive", id);
  bool kept = false;
  for (Share* const share : pool_.shares()) {
    PoolClient* const client = share->client();
    if (client == nullptr || !client->is_dirty(lease.id())) continue;
    kept = keep_with(*share, lease) || kept;
    if (!lease.retired().ok() || stopping()) return;
  }
  Share* const other = kept ? nullptr : longest_unused();
  if (other != nullptr) keep_with(*other, lease);
}

void Keeper::keep_ticket(Share& share) {
  UPLOAD_DEBUG(keeper, "keeper: a ticket was not used for long, keeping it alive");
  Result<Lease> lease = share.lease();
  if (!lease.ok()) {
    UPLOAD_DEBUG(keeper, "keeper: %s", lease.status().text().c_str());
    return;
  }
  lease.value().replace_if_closed();
  share.client()->keep_alive(lease.value());
}

// False: it is making a request already.
bool Keeper::keep_with(Share& share, Lease& lease) {
  if (!begin(share)) return false;
  share.client()->keep_alive(lease);
  end(share);
  return true;
}

// Null: none can be used.
Share* Keeper::longest_unused() {
  Share* longest = nullptr;
  TimePoint oldest = TimePoint::max();
  for (Share* const share : pool_.shares()) {
    const PoolClient* const client = share->client();
    if (client == nullptr || busy(*share)) continue;
    const TimePoint used = client->ticket_used();
    if (used < oldest) longest = share;
    oldest = std::min(oldest, used);
  }
  return longest;
}

bool Keeper::busy(const Share& share) {
  MutexLock lock(mutex_);
  return tickets_[&share].busy;
}

// When it was last used, or tried. One that is in use, or is nobody's, is not due.
TimePoint Keeper::used(const Share& share) {
  const PoolClient* const client = share.client();
  MutexLock lock(mutex_);
  const Ticket& ticket = tickets_[&share];
  if (client == nullptr || ticket.busy || share.has_lease()) return clock_.now();
  return std::max(client->ticket_used(), ticket.tried);
}

bool Keeper::begin(const Share& share) {
  MutexLock lock(mutex_);
  Ticket& ticket = tickets_[&share];
  if (std::exchange(ticket.busy, true)) return false;
  ticket.tried = clock_.now();
  return true;
}

void Keeper::end(const Share& share) {
  MutexLock lock(mutex_);
  tickets_[&share].busy = false;
}

// Returns when it is done, or lasts.
void Keeper::start(std::function<void()> body) {
  join_jobs(false);
  Job* job = nullptr;
  {
    MutexLock lock(mutex_);
    job = &jobs_.emplace_back();
  }
  const auto run_job = [this, job, body = std::move(body)] {
    body();
    MutexLock lock(mutex_);
    job->done = true;
    changed_.notify_all();
  };
  try {
    job->thread = Thread(run_job);
  } catch (const std::system_error&) {
    run_job();  // there are no more threads
  }
  MutexLock lock(mutex_);
  const TimePoint lasts = clock_.now() + patience_;
  while (!job->done && !stop_ && clock_.now() < lasts) clock_.wait_until(changed_, mutex_, lasts);
}

// Those that are done, or all.
void Keeper::join_jobs(bool all) {
  std::list<Job> ended;
  {
    MutexLock lock(mutex_);
    for (auto job = jobs_.begin(); job != jobs_.end();) {
      const auto next = std::next(job);
      if (all || job->done) ended.splice(ended.end(), jobs_, job);
      job = next;
    }
  }
  for (Job& job : ended)
    if (job.thread.joinable()) job.thread.join();
}

Duration Keeper::due_after() const {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(idle_timeout_) *
                                              random_between(0.9, 1));
}

}  // namespace upload::upstream
