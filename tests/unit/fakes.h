// SPDX-License-Identifier: BSD-3-Clause
//
// A clock that is moved by hand, one that is too fast, and connections to a server
// that does what the test says. Thread safe.
//
// What is waited for in await_... comes at once, or else the test is to fail and not
// to hang: std::runtime_error after kTooLong of real time.

#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/clock.h"
#include "http/connection.h"
#include "http/credentials.h"

namespace upload::testing {

constexpr std::chrono::seconds kTooLong(30);

// The value of the Authorization field.
inline std::string shown_by(const http::Credential& credential) {
  http::Request request;
  credential.authorize(request);
  return request.authorization;
}

class FakeClock final : public Clock {
 public:
  TimePoint now() const override {
    std::lock_guard<std::mutex> lock(mutex_);
    return now_;
  }

  WallTime wall_now() const override {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::chrono::system_clock::now() +
           std::chrono::duration_cast<WallTime::duration>(wall_offset_);
  }
  BootTime boot_now() const override {
    std::lock_guard<std::mutex> lock(mutex_);
    return BootTime((now_ + suspended_).time_since_epoch());
  }
  // The machine is suspended for so long, which only boot_now() counts.
  void suspend(Duration time) {
    std::lock_guard<std::mutex> lock(mutex_);
    suspended_ += time;
  }
  // Somebody sets the time of day.
  void set_wall_forward(Duration by) {
    std::lock_guard<std::mutex> lock(mutex_);
    wall_offset_ += by;
  }

  // Looks at the time every now and then: whoever moves it need not know who
  // sleeps, nor whether what they sleep on still exists.
  void wait_until(CondVar& condition, Mutex& mutex, TimePoint when) override REQUIRES(mutex) {
    std::list<TimePoint>::iterator mine;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (now_ >= when) return;
      mine = sleepers_.insert(sleepers_.end(), when);
      changed_.notify_all();
    }
    condition.wait_until(mutex, std::chrono::steady_clock::now() + std::chrono::milliseconds(1));
    std::lock_guard<std::mutex> lock(mutex_);
    sleepers_.erase(mine);
  }

  // Moves time. Who sleeps wakes up soon.
  void advance(Duration by) {
    std::lock_guard<std::mutex> lock(mutex_);
    now_ += by;
    changed_.notify_all();
  }

  // Waits until `count` threads sleep, all of them until after now.
  void await_sleepers(size_t count, Duration at_least = Duration(0)) {
    std::unique_lock<std::mutex> lock(mutex_);
    const bool sleep = changed_.wait_for(lock, kTooLong, [&] {
      return sleepers_.size() == count &&
             std::all_of(sleepers_.begin(), sleepers_.end(),
                         [&](TimePoint when) { return when > now_ + at_least; });
    });
    if (!sleep)
      throw std::runtime_error(std::to_string(sleepers_.size()) + " threads sleep, and not " +
                               std::to_string(count));
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  TimePoint now_ = TimePoint(std::chrono::hours(1));
  Duration wall_offset_{0};
  Duration suspended_{0};
  std::list<TimePoint> sleepers_;
};

// Real time, and so many times as much of it.
class FastClock final : public Clock {
 public:
  explicit FastClock(int times) : times_(times) {}

  TimePoint now() const override { return start_ + passed(); }
  WallTime wall_now() const override {
    return wall_start_ + std::chrono::duration_cast<WallTime::duration>(passed());
  }
  BootTime boot_now() const override { return BootTime(now().time_since_epoch()); }
  void wait_until(CondVar& condition, Mutex& mutex, TimePoint when) override REQUIRES(mutex) {
    condition.wait_until(mutex, start_ + (when - start_) / times_);
  }
  // Since it was made.
  Duration passed() const { return (std::chrono::steady_clock::now() - start_) * times_; }

 private:
  const int times_;
  const TimePoint start_ = std::chrono::steady_clock::now();
  const WallTime wall_start_ = std::chrono::system_clock::now();
};

// What the fake connections are made to.
class FakeServer {
 public:
  struct Sent {
    ConnectionId connection;
    std::string what;    // Request::what
    std::string target;  // Request::target
    uint64_t bytes;      // of the body's parts
  };
  // Answers a request; runs on the requester's thread, without a lock.
  using Handler = std::function<Result<http::Reply>(const http::Request&)>;

  void on_request(Handler handler) {
    std::lock_guard<std::mutex> lock(mutex_);
    handler_ = std::move(handler);
  }
  void close_idle(ConnectionId id) {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_.insert(id);
  }
  std::vector<Sent> sent() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return sent_;
  }
  void await_sent(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!changed_.wait_for(lock, kTooLong, [&] { return sent_.size() >= count; }))
      throw std::runtime_error(std::to_string(sent_.size()) + " requests were sent, and not " +
                               std::to_string(count));
  }
  size_t connections_made() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return made_;
  }
  size_t connections_alive() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return made_ - destroyed_;
  }

  // Requests wait in front of the handler.
  void hold() {
    std::lock_guard<std::mutex> lock(mutex_);
    held_ = true;
  }
  void release_all() {
    std::lock_guard<std::mutex> lock(mutex_);
    held_ = false;
    changed_.notify_all();
  }

  http::ConnectionFactory factory() {
    return [this](ConnectionId id, http::ConnectionEvents events) {
      std::lock_guard<std::mutex> lock(mutex_);
      ++made_;
      return std::make_unique<FakeConnection>(*this, id, std::move(events));
    };
  }

  static http::Reply ok(int status = 200) {
    http::Reply reply;
    reply.status = status;
    return reply;
  }

 private:
  class FakeConnection final : public http::Connection {
   public:
    FakeConnection(FakeServer& server, ConnectionId id, http::ConnectionEvents events)
        : server_(server), id_(id), events_(std::move(events)) {}
    ~FakeConnection() override {
      std::lock_guard<std::mutex> lock(server_.mutex_);
      ++server_.destroyed_;
    }

    Result<http::Reply> perform(const http::Request& request) override {
      if (state_ == kClosed || aborted_) return Status(Kind::kLost, "closed");
      Handler handler = server_.begin(id_, request, aborted_);
      if (aborted_) {
        state_ = kClosed;
        return Status(Kind::kLost, "aborted");
      }
      Result<http::Reply> reply = handler ? handler(request) : Result(ok());
      const bool connected = reply.ok() || reply.status().kind() != Kind::kConnect;
      if (state_ == kUnopened && connected) events_.opened();
      if (connected) events_.progress();
      state_ = reply.ok() && !reply.value().last ? kOpen : kClosed;
      return reply;
    }
    bool unopened() const override { return state_ == kUnopened; }
    bool closed() const override {
      std::lock_guard<std::mutex> lock(server_.mutex_);
      return state_ == kClosed || server_.closed_.contains(id_);
    }
    void abort() override {
      std::lock_guard<std::mutex> lock(server_.mutex_);
      aborted_ = true;
      server_.changed_.notify_all();
    }

   private:
    enum State { kUnopened, kOpen, kClosed };
    FakeServer& server_;
    const ConnectionId id_;
    const http::ConnectionEvents events_;
    State state_ = kUnopened;
    std::atomic<bool> aborted_ = false;
  };

  Handler begin(ConnectionId id, const http::Request& request, const std::atomic<bool>& aborted) {
    std::unique_lock<std::mutex> lock(mutex_);
    uint64_t bytes = 0;
    for (const http::BodyPart& part : request.parts) bytes += part.length;
    sent_.push_back({id, request.what, request.target, bytes});
    changed_.notify_all();
    changed_.wait(lock, [&] { return !held_ || aborted; });
    return handler_;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Handler handler_;
  std::vector<Sent> sent_;
  std::set<ConnectionId> closed_;
  size_t made_ = 0;
  size_t destroyed_ = 0;
  bool held_ = false;
};

}  // namespace upload::testing
