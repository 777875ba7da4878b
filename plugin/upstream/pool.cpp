// SPDX-License-Identifier: BSD-3-Clause
//
// The pool, the lines of its shares, and the two ends of a lease.
//
// Invariants:
//   - a slot is in idle_ or leased, never both; slots_.size() <= the limit,
//     but for connections that are about to end;
//   - a share that waits for any connection and has none finds no idle one: each change that
//     frees something runs match_waiters() before it lets go of the mutex. One that has a
//     lease may be kept waiting by the rules of may_lease() until that ends, or until it is
//     somebody else's turn, and not longer;
//   - clients are told of a lost connection before the failure that lost it
//     is returned to anyone, so an error is latched before it can be missed.
//
// Nothing is called while mutex_ is held but the factory; connections are
// destroyed (which closes sockets) after it was released.
//
// It does not know what a flush is, nor who is dirty: clients do.
//
// Out of memory in the book-keeping itself ends the process (noexcept): every
// client sees that, and no one is left waiting.

#include "upstream/pool.h"

#include <algorithm>
#include <cassert>

#include "base/format.h"
#include "base/log.h"
#include "base/process_stop.h"

namespace upload::upstream {

namespace {

// Longer than a client that works takes between two requests.
constexpr Duration kBusyFor = std::chrono::seconds(1);

unsigned long long number(ConnectionId id) { return id; }

Status shutting_down() { return {Kind::kShutdown, "the plugin is shutting down"}; }

}  // namespace

// A thread that waits for its grant.
class Pool::BlockingWaiter final : public LeaseWaiter {
 public:
  void granted(Result<Lease> lease) override {
    MutexLock lock(mutex_);
    lease_ = std::move(lease);
    arrived_.notify_one();
  }

  // Nothing when `when` has come first.
  std::optional<Result<Lease>> wait_until(Clock& clock, TimePoint when) {
    MutexLock lock(mutex_);
    while (!lease_ && clock.now() < when) clock.wait_until(arrived_, mutex_, when);
    return std::exchange(lease_, std::nullopt);
  }

  Result<Lease> wait() {
    MutexLock lock(mutex_);
    while (!lease_) arrived_.wait(mutex_);
    return std::move(*lease_);
  }

 private:
  Mutex mutex_;
  CondVar arrived_;
  std::optional<Result<Lease>> lease_ GUARDED_BY(mutex_);
};

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    give_back();
    pool_ = std::exchange(other.pool_, nullptr);
    slot_ = std::exchange(other.slot_, nullptr);
    retired_ = std::exchange(other.retired_, Status());
  }
  return *this;
}

Result<http::Reply> Lease::perform(const http::Request& request) {
  if (slot_->connection->closed()) {
    retire(slot_->connection->why_closed());
    return retired_;
  }
  Result<http::Reply> reply = slot_->connection->perform(request);
  // If nothing is lost with it another one will do. What this lease has carried before, its
  // holder alone knows.
  if (reply.status().kind() == Kind::kLoggedOut && !slot_->performed &&
      !pool_->is_dirty(slot_->id)) {
    pool_->replace_connection(*slot_, reply.status());
    reply = slot_->connection->perform(request);
  }
  // Then nothing has gone over it.
  if (reply.status().kind() == Kind::kLogin && !slot_->connection->closed()) return reply;
  slot_->performed = true;
  ++slot_->requests;
  if (!reply.ok()) {
    retire(reply.status());
  } else if (reply.value().last) {
    pool_->note_last_reply(*slot_);
    retire({Kind::kLost, "the server closed the connection after its reply"});
  }
  return reply;
}

void Lease::replace_if_closed() {
  if (!slot_->connection->closed()) return;
  pool_->replace_connection(*slot_, slot_->connection->why_closed());
  retired_ = Status();  // it was the other one that was
}

void Lease::retire(Status why) { retired_ = std::move(why); }

void Lease::give_back() noexcept {
  Pool* const pool = std::exchange(pool_, nullptr);
  if (pool == nullptr) return;
  if (!retired_.ok())
    pool->retire_slot(*slot_, retired_);
  else
    pool->return_slot(*slot_);
}

// --- A volume's side ------------------------------------------------------

Share::Share(Pool& pool)
    : pool_(pool),
      last_lease_ended_(TimePoint::min()),
      last_progress_(TimePoint::min().time_since_epoch().count()) {
  pool_.add(*this);
}

Share::~Share() { pool_.remove(*this); }

void Share::set_client(PoolClient& client) { pool_.set_client(*this, &client); }

void Share::remove_client() { pool_.set_client(*this, nullptr); }

PoolClient* Share::client() const { return pool_.client_of(*this); }

bool Share::has_lease() const { return pool_.has_lease(*this); }

Result<Lease> Share::lease(bool* stopped) { return pool_.wait_for(*this, std::nullopt, stopped); }

Result<Lease> Share::lease(ConnectionId id) { return pool_.wait_for(*this, id, nullptr); }

std::optional<Result<Lease>> Share::lease_or_wait(LeaseWaiter& waiter) noexcept {
  return pool_.lease_or_wait(*this, waiter);
}

TimePoint Share::give_up_at(TimePoint since) const { return pool_.give_up_at(*this, since); }

Status Share::wait_failure() const { return pool_.wait_failure(); }

unsigned Share::limit() const { return pool_.limit(); }

void Share::abort_requests() { pool_.abort_requests(*this); }

// --- Shares ---------------------------------------------------------------

Pool::Pool(const PoolOptions& options, http::ConnectionFactory factory, Clock& clock)
    : options_(options),
      factory_(std::move(factory)),
      clock_(clock),
      limit_(options.connections),
      last_progress_(clock.now().time_since_epoch().count()) {
  assert(options_.connections > 0);
}

void Pool::lower_limit(unsigned connections) {
  MutexLock lock(mutex_);
  limit_ = std::min<unsigned>(limit_, connections);
}

Pool::~Pool() {
  MutexLock lock(mutex_);
  assert(idle_.size() == slots_.size() && shares_.empty());
}

void Pool::add(Share& share) {
  MutexLock lock(mutex_);
  shares_.push_back(&share);
}

void Pool::remove(Share& share) {
  MutexLock lock(mutex_);
  assert(share.leases_ == 0 && share.waiters_.empty() && share.client_ == nullptr);
  std::erase(shares_, &share);
  for (const auto& slot : slots_)
    if (slot->used_by == &share) slot->used_by = nullptr;
}

void Pool::set_client(Share& share, PoolClient* client) {
  MutexLock lock(mutex_);
  share.client_ = client;
}

PoolClient* Pool::client_of(const Share& share) const {
  MutexLock lock(mutex_);
  return share.client_;
}

bool Pool::has_lease(const Share& share) const {
  MutexLock lock(mutex_);
  return share.leases_ > 0;
}

std::vector<Share*> Pool::shares() const {
  MutexLock lock(mutex_);
  return shares_;
}

PoolFigures Pool::figures() const {
  MutexLock lock(mutex_);
  PoolFigures figures;
  figures.idle = idle_.size();
  const size_t leased = slots_.size() - idle_.size();
  figures.opening = opening_ == 0 ? 0 : std::min<size_t>(leased, 1);
  figures.in_use = leased - figures.opening;
  figures.limit = limit_;
  for (const Share* share : shares_) figures.waiters += share->waiters_.size();
  figures.made = last_id_;
  return figures;
}

// --- Taking a lease -------------------------------------------------------

Result<Lease> Pool::wait_for(Share& share, std::optional<ConnectionId> wanted, bool* stopped) {
  BlockingWaiter waiter;
  const TimePoint start = clock_.now();
  {
    MutexLock lock(mutex_);
    if (closing_ || share.closing_) return shutting_down();
    if (wanted && std::none_of(slots_.begin(), slots_.end(),
                               [&](const auto& slot) { return slot->id == *wanted; }))
      return Status(Kind::kLost, "the connection is gone");
    std::optional<Lease> lease = take(share, wanted);
    if (lease) return std::move(*lease);
    share.waiters_.push_back({&waiter, wanted});
  }
  TimePoint since = start;
  LastLook last_look;
  for (;;) {
    const TimePoint may_wait_until = give_up_at(share, since);
    const auto give_up = last_look.wait_until(may_wait_until, clock_.now());
    if (!give_up) break;
    // What is waited for may be others' attempts, which nobody here sees. So a look at the
    // time now and then tells whether the process was stopped meanwhile.
    const TimePoint look = std::min<TimePoint>(*give_up, clock_.now() + kStopped);
    auto lease = waiter.wait_until(clock_, look);
    const TimePoint now = clock_.now();
    if (now - look > kStopped) {
      since = now;
      if (stopped != nullptr) *stopped = true;
    }
    if (lease) return std::move(*lease);
  }
  // Out of line, or else the grant is on its way.
  if (withdraw(share, waiter)) return wait_failure();
  return waiter.wait();
}

std::optional<Result<Lease>> Pool::lease_or_wait(Share& share, LeaseWaiter& waiter) noexcept {
  MutexLock lock(mutex_);
  if (closing_ || share.closing_) return shutting_down();
  std::optional<Lease> lease = take(share, std::nullopt);
  if (lease) return std::move(*lease);
  share.waiters_.push_back({&waiter, std::nullopt});
  return std::nullopt;
}

// See the head of pool.h.
bool Pool::may_lease(const Share& share) const {
  if (share.leases_ == 0 || shares_.size() == 1) return true;
  if (share.leases_ >= part_of_each()) return false;
  const bool somebody_has_none =
      std::any_of(shares_.begin(), shares_.end(), [](const Share* s) { return s->leases_ == 0; });
  const size_t in_use = slots_.size() - idle_.size();
  return in_use + (somebody_has_none ? 1 : 0) < limit_;
}

unsigned Pool::part_of_each() const {
  const TimePoint now = clock_.now();
  const auto busy = static_cast<unsigned>(
      std::count_if(shares_.begin(), shares_.end(), [now](const Share* share) {
        return share->leases_ > 0 || !share->waiters_.empty() ||
               share->last_lease_ended_ + kBusyFor > now;
      }));
  return (limit_ + busy - 1) / busy;
}

std::optional<Lease> Pool::take(Share& share, std::optional<ConnectionId> wanted) {
  if (closing_ || !may_lease(share)) return std::nullopt;
  Slot* const slot = wanted ? find_idle(*wanted) : find_any(share);
  if (slot == nullptr) return std::nullopt;
  return lease_slot(*slot, &share);
}

// Null: there is none, and no room for another.
Slot* Pool::find_any(const Share& share) {
  // The most recently used one: fewer connections become dirty.
  const auto own = std::find_if(idle_.rbegin(), idle_.rend(),
                                [&](const Slot* slot) { return slot->used_by == &share; });
  if (own != idle_.rend()) return *own;
  if (has_room() && opening_ == 0) return &add_slot();
  return idle_.empty() ? nullptr : idle_.front();
}

// For another connection.
bool Pool::has_room() const {
  if (slots_.size() < limit_) return true;
  if (!options_.overlap || requests_each_ == 0) return false;
  const auto ending = std::count_if(slots_.begin(), slots_.end(), [this](const auto& slot) {
    return slot->requests + 1 >= requests_each_;
  });
  return slots_.size() < limit_ + std::min<size_t>(limit_, static_cast<size_t>(ending));
}

// A server that closes after each reply, or after an error, has told nothing.
void Pool::note_last_reply(const Slot& slot) {
  constexpr unsigned kFew = 10;
  if (slot.requests >= kFew) requests_each_ = slot.requests.load();
}

Slot* Pool::find_idle(ConnectionId id) const {
  const auto found =
      std::find_if(idle_.begin(), idle_.end(), [&](const Slot* slot) { return slot->id == id; });
  return found == idle_.end() ? nullptr : *found;
}

// Null: on nobody's account.
Lease Pool::lease_slot(Slot& slot, Share* share) {
  std::erase(idle_, &slot);
  assert(slot.leased_by == nullptr);
  if (share != nullptr) {
    ++share->leases_;
    share->served_ = ++leases_given_;
    // Others may have had all connections until now.
    share->last_progress_ = clock_.now().time_since_epoch().count();
    slot.leased_by = share;
    slot.used_by = share;
  }
  return {*this, slot};
}

void Pool::end_lease(Slot& slot) {
  Share* const share = std::exchange(slot.leased_by, nullptr);
  if (share == nullptr) return;
  assert(share->leases_ > 0);
  --share->leases_;
  share->last_lease_ended_ = clock_.now();
}

Slot& Pool::add_slot() {
  // Not has_room(): what a connection carries may have been learned since.
  assert(slots_.size() < 2 * size_t{limit_});

  auto slot = std::make_unique<Slot>();
  slot->id = ++last_id_;
  slot->connection = make_connection(*slot);
  UPLOAD_DEBUG(pool, "connection %llu: to be opened, %s", number(slot->id),
               describe_connections().c_str());
  slots_.push_back(std::move(slot));
  opening_ = slots_.back()->id;
  return *slots_.back();
}

// For the slot, with its id.
std::unique_ptr<http::Connection> Pool::make_connection(const Slot& slot) {
  return factory_(slot.id, {[this, &slot, id = slot.id] {
                              moved(slot);
                              opened(id);
                            },
                            [this, &slot] { moved(slot); }});
}

TimePoint Pool::give_up_at(const Share& share, TimePoint since) const {
  MutexLock lock(mutex_);
  // Others may go on for ever while nothing moves for this one.
  const auto& progress = share.leases_ > 0 ? share.last_progress_ : last_progress_;
  return std::max(since, TimePoint{Duration(progress.load())}) + options_.connect_timeout +
         options_.timeout;
}

Status Pool::wait_failure() const {
  MutexLock lock(mutex_);
  return {Kind::kPoolWait, "no connection became free: " + describe_connections()};
}

std::string Pool::describe_connections() const {
  size_t waiting = 0;
  for (const Share* share : shares_) waiting += share->waiters_.size();
  return format("%zu connections of at most %u, %zu idle, %zu in use, %zu waiting", slots_.size(),
                limit_.load(), idle_.size(), slots_.size() - idle_.size(), waiting);
}

bool Pool::withdraw(Share& share, LeaseWaiter& waiter) {
  MutexLock lock(mutex_);
  return std::erase_if(share.waiters_, [&](const Share::Waiter& w) { return w.who == &waiter; }) >
         0;
}

// --- Giving it back -------------------------------------------------------

void Pool::return_slot(Slot& slot) noexcept {
  std::vector<Grant> grants;
  std::unique_ptr<http::Connection> unused;
  {
    MutexLock lock(mutex_);
    end_lease(slot);
    if (slot.connection->unopened()) {
      // Nobody needed it, so nobody shall have to keep it alive.
      unused = remove_slot(slot);
    } else {
      if (std::exchange(slot.performed, false)) slot.idle_since = clock_.now();
      idle_.insert(std::upper_bound(idle_.begin(), idle_.end(), slot.idle_since,
                                    [](TimePoint since, const Slot* other) {
                                      return since < other->idle_since;
                                    }),
                   &slot);
    }
    grants = match_waiters();
    if (idle_.size() == slots_.size()) all_back_.notify_all();
  }
  hand_out(std::move(grants));
}

void Pool::retire_slot(Slot& slot, const Status& why) noexcept {
  tell_lost(slot.id, why);
  std::unique_ptr<http::Connection> gone;
  std::vector<Grant> grants;
  {
    MutexLock lock(mutex_);
    const ConnectionId id = slot.id;
    end_lease(slot);
    gone = remove_slot(slot);
    grants = fail_waiters(why, id);
    // The server can't be reached: whoever waits would only try the same.
    if (slots_.empty() && why.kind() == Kind::kConnect) {
      std::vector<Grant> more = fail_waiters(why, std::nullopt);
      std::move(more.begin(), more.end(), std::back_inserter(grants));
    }
    std::vector<Grant> more = match_waiters();
    std::move(more.begin(), more.end(), std::back_inserter(grants));
    if (idle_.size() == slots_.size()) all_back_.notify_all();
  }
  gone.reset();
  hand_out(std::move(grants));
}

std::unique_ptr<http::Connection> Pool::remove_slot(Slot& slot) {
  UPLOAD_DEBUG(pool, "connection %llu: closed, %s", number(slot.id),
               describe_connections().c_str());
  if (opening_ == slot.id) opening_ = 0;
  std::unique_ptr<http::Connection> connection = std::move(slot.connection);
  const auto found = std::find_if(slots_.begin(), slots_.end(),
                                  [&](const auto& other) { return other.get() == &slot; });
  assert(found != slots_.end());
  slots_.erase(found);
  return connection;
}

void Pool::replace_connection(Slot& slot, const Status& why) noexcept {
  tell_lost(slot.id, why);
  std::vector<Grant> grants;
  std::unique_ptr<http::Connection> gone;
  {
    MutexLock lock(mutex_);
    grants = fail_waiters(why, slot.id);
    gone = std::move(slot.connection);
    slot.id = ++last_id_;
    slot.connection = make_connection(slot);
    slot.requests = 0;
  }
  UPLOAD_DEBUG(pool, "connection %llu: takes the place of one closed while idle",
               number(slot.id));
  gone.reset();
  hand_out(std::move(grants));
}

bool Pool::is_dirty(ConnectionId id) {
  const std::vector<Share*> shares = this->shares();
  return std::any_of(shares.begin(), shares.end(), [id](const Share* share) {
    const PoolClient* const client = share->client();
    return client != nullptr && client->is_dirty(id);
  });
}

void Pool::tell_lost(ConnectionId id, const Status& why) {
  UPLOAD_DEBUG(pool, "connection %llu: lost: %s", number(id), why.text().c_str());
  for (const Share* share : shares())
    if (PoolClient* const client = share->client()) client->connection_lost(id, why);
}

// --- Waiters --------------------------------------------------------------

std::vector<Pool::Grant> Pool::match_waiters() {
  std::vector<Grant> grants;
  std::vector<Share*> waiting;
  for (Share* share : shares_)
    if (!share->waiters_.empty()) waiting.push_back(share);
  while (!waiting.empty()) {
    const auto next =
        std::min_element(waiting.begin(), waiting.end(), [](const Share* a, const Share* b) {
          return std::pair(a->leases_, a->served_) < std::pair(b->leases_, b->served_);
        });
    if (std::optional<Grant> grant = serve_one(**next))
      grants.push_back(std::move(*grant));
    else
      waiting.erase(next);
  }
  return grants;
}

// The first in its line that there is a connection for.
std::optional<Pool::Grant> Pool::serve_one(Share& share) {
  for (auto waiter = share.waiters_.begin(); waiter != share.waiters_.end(); ++waiter) {
    std::optional<Lease> lease = take(share, waiter->wanted);
    if (!lease) continue;
    Grant grant{waiter->who, std::move(*lease)};
    share.waiters_.erase(waiter);
    return grant;
  }
  return std::nullopt;
}

// Those who want that connection; without an id: those who would take any.
std::vector<Pool::Grant> Pool::fail_waiters(const Status& why,
                                            std::optional<ConnectionId> wanted) {
  std::vector<Grant> grants;
  for (Share* share : shares_)
    std::erase_if(share->waiters_, [&](const Share::Waiter& waiter) {
      if (waiter.wanted != wanted) return false;
      grants.push_back({waiter.who, why});
      return true;
    });
  return grants;
}

void Pool::hand_out(std::vector<Grant> grants) noexcept {
  for (Grant& grant : grants) grant.who->granted(std::move(grant.lease));
}

// --- What connections tell ------------------------------------------------

void Pool::opened(ConnectionId id) noexcept {
  std::vector<Grant> grants;
  {
    MutexLock lock(mutex_);
    if (opening_ != id) return;
    opening_ = 0;
    UPLOAD_DEBUG(pool, "connection %llu: open", number(id));
    grants = match_waiters();
  }
  hand_out(std::move(grants));
}

// Within a request, and so while the slot is leased.
void Pool::moved(const Slot& slot) {
  last_progress_ = clock_.now().time_since_epoch().count();
  if (slot.leased_by != nullptr) slot.leased_by->last_progress_ = last_progress_.load();
}

// --- The keeper's side ----------------------------------------------------

std::optional<TimePoint> Pool::idle_since() const {
  MutexLock lock(mutex_);
  if (idle_.empty()) return std::nullopt;
  return idle_.front()->idle_since;
}

std::optional<Lease> Pool::lease_idle(TimePoint before) {
  MutexLock lock(mutex_);
  if (closing_ || idle_.empty() || idle_.front()->idle_since > before) return std::nullopt;
  return lease_slot(*idle_.front(), nullptr);
}

// --- The end --------------------------------------------------------------

void Pool::abort_requests(Share& share) {
  std::vector<Grant> grants;
  {
    MutexLock lock(mutex_);
    share.closing_ = true;
    for (const Share::Waiter& waiter : std::exchange(share.waiters_, {}))
      grants.push_back({waiter.who, shutting_down()});
    for (const auto& slot : slots_)
      if (slot->leased_by == &share) slot->connection->abort();
  }
  hand_out(std::move(grants));
}

void Pool::abort_requests() {
  std::vector<Grant> grants;
  {
    MutexLock lock(mutex_);
    closing_ = true;
    for (Share* share : shares_)
      for (const Share::Waiter& waiter : std::exchange(share->waiters_, {}))
        grants.push_back({waiter.who, shutting_down()});
    for (const auto& slot : slots_) slot->connection->abort();
  }
  hand_out(std::move(grants));
}

void Pool::close() {
  abort_requests();
  std::vector<std::unique_ptr<Slot>> gone;
  MutexLock lock(mutex_);
  while (idle_.size() != slots_.size()) all_back_.wait(mutex_);
  idle_.clear();
  gone = std::exchange(slots_, {});
}

}  // namespace upload::upstream
