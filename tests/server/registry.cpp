// SPDX-License-Identifier: BSD-3-Clause
//
// Connections and their threads.
//
// Each connection has one thread, which says at its very end that it has finished; it is
// joined, and forgotten together with its connection, when the next connection comes or
// the server stops. So the number of ended threads that are waiting to be joined is
// bounded by how many connections there were at once.
//
// Invariant: an entry's connection exists until its thread has been joined, so whoever
// holds mutex_ may use every connection of the map.
//
// Threads: any. No lock is held while a thread is joined or a connection is served.
// Errors: a thread that cannot be started closes its connection.

#include "registry.h"

#include <signal.h>

#include <algorithm>
#include <system_error>

namespace upload::testserver {

std::thread start_thread(std::function<void()> body) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  try {
    thread = std::thread(std::move(body));
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

void Registry::serve(FileDescriptor fd, SSL_CTX* tls, FiredFault fault) {
  join_finished();
  state_.board.update([&](Counters& counters) {
    ++counters.connections_open;
    counters.max_connections_open =
        std::max(counters.max_connections_open, counters.connections_open);
  });
  const std::lock_guard lock(mutex_);
  const ConnectionId id = ++last_id_;
  Entry& entry = entries_[id];
  entry.connection =
      std::make_unique<Connection>(state_, id, std::move(fd), tls, std::move(fault));
  try {
    entry.thread =
        start_thread([this, id, &connection = *entry.connection] { run(id, connection); });
  } catch (const std::system_error&) {
    entries_.erase(id);
    state_.board.update([](Counters& counters) { --counters.connections_open; });
  }
}

void Registry::run(ConnectionId id, Connection& connection) {
  connection.run();
  {
    const std::lock_guard lock(mutex_);
    entries_[id].finished = true;
    finished_.notify_all();
  }
}

void Registry::join_finished() {
  std::vector<Entry> finished;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = entries_.begin(); it != entries_.end();) {
      if (it->second.finished) {
        finished.push_back(std::move(it->second));
        it = entries_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (Entry& entry : finished) {
    entry.thread.join();
  }
}

void Registry::wait_for(std::unique_lock<std::mutex>& lock,
                        const std::vector<ConnectionId>& ids) {
  finished_.wait(lock, [&] {
    return std::all_of(ids.begin(), ids.end(), [&](ConnectionId id) {
      const auto found = entries_.find(id);
      return found == entries_.end() || found->second.finished;
    });
  });
}

void Registry::drop_all() {
  {
    std::unique_lock lock(mutex_);
    std::vector<ConnectionId> ids;
    for (auto& [id, entry] : entries_) {
      entry.connection->drop();
      ids.push_back(id);
    }
    wait_for(lock, ids);
  }
  join_finished();
}

std::size_t Registry::drop_idle() {
  std::unique_lock lock(mutex_);
  std::vector<ConnectionId> ids;
  for (auto& [id, entry] : entries_) {
    if (entry.connection->drop_if_idle()) {
      ids.push_back(id);
    }
  }
  wait_for(lock, ids);
  return ids.size();
}

void Registry::wake_all() {
  const std::lock_guard lock(mutex_);
  for (auto& [id, entry] : entries_) {
    entry.connection->wake();
  }
}

}  // namespace upload::testserver
