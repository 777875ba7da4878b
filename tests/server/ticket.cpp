// SPDX-License-Identifier: BSD-3-Clause
//
// Tickets: validity, and the watch for overlapping changes.
//
// A ticket is valid until it is removed, expired by a test, or left without a completed
// operation for longer than its time-out. What has been removed stays here, so that
// tests can still look at the image.
//
// A client promises never to have overlapping changes in flight. Each change registers
// its range as soon as its header was read and leaves before its reply is begun, so a
// client that waits for the reply is never blamed. Nor is one that closed a connection
// and sent the change again on another one while the server had not noticed yet: that is
// why an entry knows how to ask for its peer.
//
// Threads: any; short locks. begin_change() calls `gone` with mutex_ held, which takes
// only the channel's lock. Errors: none.

#include "ticket.h"

#include <algorithm>
#include <utility>

namespace upload::testserver {

namespace {

constexpr unsigned kDefaultReaders = 8;

}  // namespace

Ticket::Ticket(TicketOptions options, std::shared_ptr<Backend> backend)
    : options_(std::move(options)), backend_(std::move(backend)), last_use_(Clock::now()) {}

unsigned Ticket::max_readers() const {
  return options_.max_readers != 0 ? options_.max_readers : kDefaultReaders;
}

unsigned Ticket::max_writers() const {
  return options_.max_writers != 0 ? options_.max_writers : backend_->max_writers();
}

Ticket::State Ticket::state() const {
  const std::lock_guard lock(mutex_);
  const bool timed_out = state_ == State::valid && options_.timeout.count() > 0 &&
                         Clock::now() - last_use_ >= options_.timeout;
  return timed_out ? State::expired : state_;
}

void Ticket::set_state(State state) {
  const std::lock_guard lock(mutex_);
  state_ = state;
  last_use_ = Clock::now();
}

void Ticket::touch() {
  const std::lock_guard lock(mutex_);
  last_use_ = Clock::now();
}

std::shared_ptr<Blob> Ticket::blob() const {
  const std::lock_guard lock(mutex_);
  return blob_;
}

void Ticket::set_blob(std::shared_ptr<Blob> blob) {
  const std::lock_guard lock(mutex_);
  blob_ = std::move(blob);
}

bool Ticket::begin_change(ConnectionId connection, const ByteRange& range, PeerGone gone) {
  const std::lock_guard lock(mutex_);
  const bool overlaps = std::any_of(
      active_.begin(), active_.end(),
      [&](const ActiveChange& other) { return other.range.overlaps(range) && !other.gone(); });
  active_.push_back({connection, range, std::move(gone)});
  return !overlaps;
}

void Ticket::end_change(ConnectionId connection) {
  const std::lock_guard lock(mutex_);
  std::erase_if(active_,
                [&](const ActiveChange& change) { return change.connection == connection; });
}

void TicketStore::add(std::shared_ptr<Ticket> ticket) {
  const std::string id = ticket->options().id;
  const std::lock_guard lock(mutex_);
  tickets_[id] = std::move(ticket);
}

std::vector<std::shared_ptr<Ticket>> TicketStore::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Ticket>> tickets;
  for (const auto& [id, ticket] : tickets_) {
    tickets.push_back(ticket);
  }
  return tickets;
}

std::shared_ptr<Ticket> TicketStore::find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = tickets_.find(id);
  return found == tickets_.end() ? nullptr : found->second;
}

}  // namespace upload::testserver
