// SPDX-License-Identifier: BSD-3-Clause
//
// All connections of a server, and their threads.

#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "connection.h"

namespace upload::testserver {

/// Thread safe.
class Registry {
 public:
  explicit Registry(ServerState& state) : state_(state) {}
  ~Registry() { drop_all(); }
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  /// Serves the connection on a thread of its own.
  void serve(FileDescriptor fd, SSL_CTX* tls, FiredFault fault);

  /// These return when the connections have been closed. One that is accepted meanwhile
  /// may stay.
  void drop_all();
  std::size_t drop_idle();

  void wake_all();

 private:
  struct Entry {
    std::unique_ptr<Connection> connection;
    std::thread thread;
    bool finished = false;
  };

  void run(ConnectionId id, Connection& connection);
  void wait_for(std::unique_lock<std::mutex>& lock, const std::vector<ConnectionId>& ids);
  void join_finished();

  ServerState& state_;

  std::mutex mutex_;  // protects all below
  std::condition_variable finished_;
  std::map<ConnectionId, Entry> entries_;
  ConnectionId last_id_ = 0;
};

/// Starts a thread that no signal is delivered to; SIGPIPE above all.
[[nodiscard]] std::thread start_thread(std::function<void()> body);

}  // namespace upload::testserver
