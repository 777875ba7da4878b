// SPDX-License-Identifier: BSD-3-Clause
//
// Server: an image upload server at the level of http::Connection that does what a
// script says.
//
// Left alone it answers everything, after up to a millisecond, and keeps the first
// byte of each block. For fibers.

#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "http/connection.h"
#include "script/asked.h"
#include "sim/scheduler.h"

namespace upload::script {

class Server {
 public:
  struct Sent {
    ConnectionId connection;
    Asked asked;
    uint64_t bytes;  // of the body's parts
    sim::TimePoint when;
  };
  using Handler = std::function<Result<http::Reply>(const Asked&, const http::Request&)>;

  // Of a disk of that many bytes.
  explicit Server(uint64_t size) : size_(size) {}

  // --- What it answers

  // In place of answer(); it may wait. Null: answer().
  void on_request(Handler handler) { handler_ = std::move(handler); }
  // What a server that is well does.
  [[nodiscard]] Result<http::Reply> answer(const Asked& asked, const http::Request& request);
  // The next `times` requests of that kind fail, or are refused with that status; the
  // others are answered.
  void fail(Verb verb, const Status& failure, uint64_t times = UINT64_MAX);
  void refuse(Verb verb, int status);
  // Every request that comes before back() fails.
  void away(const Status& failure = {Kind::kConnect, "refused"}) { away_ = failure; }
  void back() { away_ = {}; }
  static http::Reply ok(int status = 200);

  // --- When

  // Requests wait, after sent() has them, until as many are released.
  void hold() { held_ = true; }
  void release(size_t count);
  void release_all();
  // Those that are asked for here wait until let_go().
  void hold(const Asked& asked) { holds_.push_back(asked); }
  void let_go(const Asked& asked);

  // --- Connections

  // They are open before their first request is answered; none fails to be made.
  void open_first() { opens_first_ = true; }
  void close_idle(ConnectionId id) { closed_.insert(id); }
  [[nodiscard]] size_t connections_made() const { return made_; }
  [[nodiscard]] size_t connections_alive() const { return made_ - destroyed_; }
  [[nodiscard]] http::ConnectionFactory factory();

  // --- What it has seen

  [[nodiscard]] const std::vector<Sent>& sent() const { return sent_; }
  [[nodiscard]] Requests requests() const;
  [[nodiscard]] size_t count(const Asked& asked) const;
  [[nodiscard]] size_t count(Verb verb) const;
  void await_sent(size_t count);
  void await(const Asked& asked);
  // A character for each block, '.' for one that was never written.
  [[nodiscard]] std::string content(uint64_t block, uint64_t count = 1) const;

 private:
  class Connection;
  Result<http::Reply> serve(Connection& connection, const http::Request& request);
  void changed() { sim::scheduler().wake_all(changed_); }
  [[nodiscard]] bool must_wait(const Asked& asked) const;

  const uint64_t size_;
  Handler handler_;
  Status away_;
  bool held_ = false;
  size_t released_ = 0;
  std::vector<Asked> holds_;
  bool opens_first_ = false;
  std::set<ConnectionId> closed_;
  size_t made_ = 0;
  size_t destroyed_ = 0;
  std::vector<Sent> sent_;
  std::map<uint64_t, char> blocks_;
  sim::WaitList changed_;
};

}  // namespace upload::script
