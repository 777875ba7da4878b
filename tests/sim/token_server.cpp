// SPDX-License-Identifier: BSD-3-Clause
//
// A login: one request on a connection of its own.

#include "sim/token_server.h"

#include <algorithm>

namespace upload::sim {

using namespace std::chrono_literals;

class TokenConnection final : public http::Connection {
 public:
  TokenConnection(TokenServer& server, std::shared_ptr<const http::Origin> origin)
      : server_(server), origin_(std::move(origin)) {}

  Result<http::Reply> perform(const http::Request& request) override {
    require(request.authorization.starts_with("Basic "), "a login without credentials");
    ++server_.under_way_;
    require(server_.under_way_ == 1 || !server_.one_at_a_time, "two log in at a time");
    Result<http::Reply> reply = ask();
    --server_.under_way_;
    scheduler().note("%s: %s", request.what.c_str(),
                     reply.ok() ? std::to_string(reply.value().status).c_str()
                                : reply.status().text().c_str());
    closed_ = true;
    return reply;
  }
  [[nodiscard]] bool unopened() const override { return !closed_; }
  [[nodiscard]] bool closed() const override { return closed_; }
  void abort() override {
    aborted_ = true;
    scheduler().wake_all(waits_);
  }

 private:
  Result<http::Reply> ask() {
    soak::Random& random = scheduler().random();
    wait(Duration(static_cast<Duration::rep>(
        random.below(static_cast<uint64_t>(server_.latency.count()) + 1))));
    if (aborted_) return Status(Kind::kLost, "the connection was shut down");
    if (scheduler().now() < server_.away_until_) {
      ++server_.faults_;
      if (!server_.silent_) return Status(Kind::kConnect, "connection refused");
      wait(origin_->timeout);
      return Status(Kind::kLost, "no progress within the time-out");
    }
    return server_.answer();
  }
  void wait(Duration time) {
    const TimePoint until = scheduler().now() + time;
    while (!aborted_ && scheduler().now() < until)
      scheduler().wait(waits_, "the token server", until);
  }

  TokenServer& server_;
  const std::shared_ptr<const http::Origin> origin_;
  WaitList waits_;
  bool closed_ = false;
  bool aborted_ = false;
};

http::Connector TokenServer::connector() {
  return [this](std::shared_ptr<const http::Origin> origin, ConnectionId,
                const http::ConnectionEvents&) -> std::unique_ptr<http::Connection> {
    return std::make_unique<TokenConnection>(*this, std::move(origin));
  };
}

void TokenServer::go_away(Duration time, bool silent) {
  scheduler().note(
      "token server: away for %lld ms%s",
      static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(time).count()),
      silent ? ", silently" : "");
  away_until_ = std::max(away_until_, scheduler().now() + time);
  silent_ = silent;
  has_hung_ = has_hung_ || silent;
}

std::optional<TimePoint> TokenServer::well_since() const {
  if (away_until_ > scheduler().now()) return std::nullopt;
  return away_until_;
}

TokenServer::Verdict TokenServer::judge(const std::string& authorization) const {
  const auto found = good_.find(authorization);
  if (found == good_.end()) return Verdict::kUnknown;
  return scheduler().now() < found->second ? Verdict::kGood : Verdict::kExpired;
}

http::Reply TokenServer::answer() {
  soak::Random& random = scheduler().random();
  http::Reply reply;
  reply.status = 200;
  if (random.below(1000) < fails) {
    static const char* const kNonsense[] = {"", "<html>", "{}", R"({"access_token":""})"};
    ++faults_;
    reply.status = random.percent(50) ? 503 : 200;
    reply.body = random.any_of(kNonsense);
    return reply;
  }
  const std::string token = "token-0123456789-" + std::to_string(++last_token_);
  reply.body = R"({"access_token":")" + token + "\"";
  if (life)
    reply.body +=
        ",\"expires_in\":" + std::to_string(std::chrono::duration<double>(*life).count());
  reply.body += "}";
  good_["Bearer " + token] = life ? scheduler().now() + *life : TimePoint::max();
  return reply;
}

}  // namespace upload::sim
