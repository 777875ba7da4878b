// SPDX-License-Identifier: BSD-3-Clause
//
// The pool, its line of waiters, and the two ends of a lease.
//
// Invariants:
//   - a slot is in idle_ or leased, never both; slots_.size() <= the limit;
//   - whoever waits without a connection id finds no idle connection: each
//     change that frees something runs match_waiters() before it lets go of
//     the mutex;
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
  if (!reply.ok())
    retire(reply.status());
  else if (reply.value().last)
    retire({Kind::kLost, "the server closed the connection after its reply"});
  return reply;
}

void Lease::replace_if_closed() {
  if (slot_->connection->closed())
    pool_->replace_connection(*slot_, slot_->connection->why_closed());
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

Pool::Pool(const PoolOptions& options, http::ConnectionFactory factory, Clock& clock)
    : options_(options),
      factory_(std::move(factory)),
      clock_(clock),
      last_progress_(clock.now().time_since_epoch().count()),
      empty_since_(clock.now()) {
  assert(options_.connections > 0);
}

Pool::~Pool() {
  MutexLock lock(mutex_);
  assert(idle_.size() == slots_.size() && waiters_.empty());
}

void Pool::add_client(PoolClient& client) {
  MutexLock lock(mutex_);
  clients_.push_back(&client);
}

void Pool::remove_client(PoolClient& client) {
  MutexLock lock(mutex_);
  std::erase(clients_, &client);
}

// --- Taking a lease -------------------------------------------------------

Result<Lease> Pool::lease() { return wait_for(std::nullopt); }

Result<Lease> Pool::lease(ConnectionId id) { return wait_for(id); }

Result<Lease> Pool::wait_for(std::optional<ConnectionId> wanted) {
  BlockingWaiter waiter;
  const TimePoint start = clock_.now();
  {
    MutexLock lock(mutex_);
    if (closing_) return shutting_down();
    if (wanted && std::none_of(slots_.begin(), slots_.end(),
                               [&](const auto& slot) { return slot->id == *wanted; }))
      return Status(Kind::kLost, "the connection is gone");
    std::optional<Lease> lease = wanted ? take_idle(*wanted) : take_any();
    if (lease) return std::move(*lease);
    waiters_.push_back({&waiter, wanted});
  }
  TimePoint since = start;
  LastLook last_look;
  while (const auto planned = last_look.wait_until(give_up_at(since), clock_.now())) {
    auto lease = waiter.wait_until(clock_, *planned);
    if (lease) return std::move(*lease);
    const TimePoint now = clock_.now();
    if (now - *planned > kStopped) since = now;
  }
  // Out of line, or else the grant is on its way.
  if (withdraw(waiter)) return wait_failure();
  return waiter.wait();
}

std::optional<Result<Lease>> Pool::lease_or_wait(LeaseWaiter& waiter) noexcept {
  MutexLock lock(mutex_);
  if (closing_) return shutting_down();
  std::optional<Lease> lease = take_any();
  if (lease) return std::move(*lease);
  waiters_.push_back({&waiter, std::nullopt});
  return std::nullopt;
}

std::optional<Lease> Pool::take_any() {
  if (closing_) return std::nullopt;
  if (!idle_.empty()) {
    // The most recently used one: fewer connections become dirty.
    Slot* const slot = idle_.back();
    idle_.pop_back();
    return Lease(*this, *slot);
  }
  if (slots_.size() < options_.connections && opening_ == 0) return Lease(*this, add_slot());
  return std::nullopt;
}

std::optional<Lease> Pool::take_idle(ConnectionId id) {
  const auto found =
      std::find_if(idle_.begin(), idle_.end(), [&](const Slot* slot) { return slot->id == id; });
  if (found == idle_.end()) return std::nullopt;
  Slot* const slot = *found;
  idle_.erase(found);
  return Lease(*this, *slot);
}

Slot& Pool::add_slot() {
  assert(slots_.size() < options_.connections);
  auto slot = std::make_unique<Slot>();
  slot->id = ++last_id_;
  slot->connection = make_connection(slot->id);
  UPLOAD_DEBUG(pool, "connection %llu: to be opened, %s", number(slot->id),
               describe_connections().c_str());
  slots_.push_back(std::move(slot));
  opening_ = slots_.back()->id;
  return *slots_.back();
}

std::unique_ptr<http::Connection> Pool::make_connection(ConnectionId id) {
  return factory_(id, {[this, id] { opened(id); }, [this] { moved(); }});
}

TimePoint Pool::give_up_at(TimePoint since) const {
  const TimePoint progress{Duration(last_progress_.load())};
  return std::max(since, progress) + options_.connect_timeout + options_.timeout;
}

Status Pool::wait_failure() const {
  MutexLock lock(mutex_);
  return {Kind::kPoolWait, "no connection became free: " + describe_connections()};
}

std::string Pool::describe_connections() const {
  return format("%zu connections of at most %u, %zu idle, %zu in use, %zu waiting", slots_.size(),
                options_.connections, idle_.size(), slots_.size() - idle_.size(),
                waiters_.size());
}

bool Pool::withdraw(LeaseWaiter& waiter) {
  MutexLock lock(mutex_);
  const auto found = std::find_if(waiters_.begin(), waiters_.end(),
                                  [&](const Waiter& w) { return w.who == &waiter; });
  if (found == waiters_.end()) return false;
  waiters_.erase(found);
  return true;
}

// --- Giving it back -------------------------------------------------------

void Pool::return_slot(Slot& slot) noexcept {
  std::vector<Grant> grants;
  std::unique_ptr<http::Connection> unused;
  {
    MutexLock lock(mutex_);
    if (slot.connection->unopened()) {
      // Nobody needed it, so nobody shall have to keep it alive.
      unused = remove_slot(slot);
    } else {
      slot.idle_since = clock_.now();
      idle_.push_back(&slot);
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
  if (slots_.empty()) empty_since_ = clock_.now();
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
    slot.connection = make_connection(slot.id);
  }
  UPLOAD_DEBUG(pool, "connection %llu: takes the place of one closed while idle",
               number(slot.id));
  gone.reset();
  hand_out(std::move(grants));
}

void Pool::tell_lost(ConnectionId id, const Status& why) {
  std::vector<PoolClient*> clients;
  {
    MutexLock lock(mutex_);
    clients = clients_;
  }
  UPLOAD_DEBUG(pool, "connection %llu: lost: %s", number(id), why.text().c_str());
  for (PoolClient* client : clients) client->connection_lost(id, why);
}

// --- Waiters --------------------------------------------------------------

std::vector<Pool::Grant> Pool::match_waiters() {
  std::vector<Grant> grants;
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
    std::optional<Lease> lease = waiter->wanted ? take_idle(*waiter->wanted) : take_any();
    if (lease) {
      grants.push_back({waiter->who, std::move(*lease)});
      waiter = waiters_.erase(waiter);
    } else {
      ++waiter;
    }
  }
  return grants;
}

std::vector<Pool::Grant> Pool::fail_waiters(const Status& why,
                                            std::optional<ConnectionId> wanted) {
  std::vector<Grant> grants;
  std::erase_if(waiters_, [&](const Waiter& waiter) {
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
  moved();
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

void Pool::moved() { last_progress_ = clock_.now().time_since_epoch().count(); }

// --- The keeper's side ----------------------------------------------------

std::optional<TimePoint> Pool::idle_since() const {
  MutexLock lock(mutex_);
  if (slots_.empty()) return empty_since_;
  if (idle_.empty()) return std::nullopt;
  return idle_.front()->idle_since;
}

std::optional<Lease> Pool::lease_idle(TimePoint before) {
  MutexLock lock(mutex_);
  if (closing_) return std::nullopt;
  if (slots_.empty()) {
    if (empty_since_ > before) return std::nullopt;
    return Lease(*this, add_slot());
  }
  if (idle_.empty() || idle_.front()->idle_since > before) return std::nullopt;
  return take_idle(idle_.front()->id);
}

void Pool::keep_alive(Lease& lease) {
  std::vector<PoolClient*> clients;
  {
    MutexLock lock(mutex_);
    clients = clients_;
  }
  for (PoolClient* client : clients) client->keep_alive(lease);
}

void Pool::abort_requests() {
  std::vector<Grant> grants;
  {
    MutexLock lock(mutex_);
    closing_ = true;
    while (!waiters_.empty()) {
      grants.push_back({waiters_.front().who, shutting_down()});
      waiters_.pop_front();
    }
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
