// SPDX-License-Identifier: BSD-3-Clause
//
// A request, from the client's side: it is noted, goes on its way for up to
// a millisecond, waits if the script says so, and is answered. Only there may other
// fibers run, so nothing here needs a mutex.

#include "script/server.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace upload::script {

// The client's end.
class Server::Connection final : public http::Connection {
 public:
  Connection(Server& server, ConnectionId id, http::ConnectionEvents events)
      : server_(server), id_(id), events_(std::move(events)) {}
  ~Connection() override { ++server_.destroyed_; }

  Result<http::Reply> perform(const http::Request& request) override {
    if (state_ == kClosed || aborted_) return Status(Kind::kLost, "closed");
    if (state_ == kUnopened && server_.opens_first_) opened();
    Result<http::Reply> reply = server_.serve(*this, request);
    if (aborted_) {
      state_ = kClosed;
      return Status(Kind::kLost, "aborted");
    }
    const bool connected = reply.ok() || reply.status().kind() != Kind::kConnect;
    if (state_ == kUnopened && connected) opened();
    if (connected) events_.progress();
    state_ = reply.ok() && !reply.value().last ? kOpen : kClosed;
    return reply;
  }
  bool unopened() const override { return state_ == kUnopened; }
  bool closed() const override { return state_ == kClosed || server_.closed_.contains(id_); }
  void abort() override {
    aborted_ = true;
    server_.changed();
  }

  [[nodiscard]] ConnectionId id() const { return id_; }
  [[nodiscard]] bool aborted() const { return aborted_; }

 private:
  enum State { kUnopened, kOpen, kClosed };
  void opened() {
    state_ = kOpen;
    events_.opened();
  }

  Server& server_;
  const ConnectionId id_;
  const http::ConnectionEvents events_;
  State state_ = kUnopened;
  bool aborted_ = false;
};

http::ConnectionFactory Server::factory() {
  return [this](ConnectionId id, http::ConnectionEvents events) {
    ++made_;
    return std::make_unique<Connection>(*this, id, std::move(events));
  };
}

bool Server::must_wait(const Asked& asked) const {
  return (held_ && released_ == 0) ||
         std::find(holds_.begin(), holds_.end(), asked) != holds_.end();
}

Result<http::Reply> Server::serve(Connection& connection, const http::Request& request) {
  sim::Scheduler& scheduler = sim::scheduler();
  const Asked asked = parse(request);
  sim::require(asked.range.end() <= size_, "a request beyond the end of the disk");
  uint64_t bytes = 0;
  for (const http::BodyPart& part : request.parts) bytes += part.length;
  sent_.push_back({connection.id(), asked, bytes, scheduler.now()});
  scheduler.note("%s on %llu", request.what.c_str(),
                 static_cast<unsigned long long>(connection.id()));
  changed();
  const Status away = away_;
  scheduler.sleep(std::chrono::microseconds(scheduler.random().below(1000)));
  if (!away.ok()) return away;
  while (must_wait(asked) && !connection.aborted())
    scheduler.wait(changed_, "a server that is held");
  if (held_ && released_ > 0) --released_;
  if (connection.aborted()) return Status(Kind::kLost, "aborted");
  const Handler handler = handler_;
  Result<http::Reply> reply = handler ? handler(asked, request) : answer(asked, request);
  scheduler.note(
      "%s on %llu: %s", request.what.c_str(), static_cast<unsigned long long>(connection.id()),
      reply.ok() ? std::to_string(reply.value().status).c_str() : reply.status().text().c_str());
  return reply;
}

http::Reply Server::ok(int status) {
  http::Reply reply;
  reply.status = status;
  return reply;
}

Result<http::Reply> Server::answer(const Asked& asked, const http::Request& request) {
  const ByteRange range = asked.range;
  http::Reply reply = ok();
  switch (asked.verb) {
    case Verb::kOptions: reply.body = R"({"features": ["zero", "flush"]})"; break;
    case Verb::kPost: reply.status = 405; break;
    case Verb::kExtents:
      reply.body = nlohmann::json::array(
                       {{{"start", 0}, {"length", size_}, {"zero", true}, {"hole", true}}})
                       .dump();
      break;
    case Verb::kRead:
      reply.status = 206;
      reply.headers.set("Content-Range", "bytes " + std::to_string(range.offset) + "-" +
                                             std::to_string(range.last()) + "/" +
                                             std::to_string(size_));
      reply.sunk = range.length;
      for (uint64_t i = 0; i < range.length; ++i) {
        const auto block = blocks_.find((range.offset + i) / kBlock);
        request.sink[i] = static_cast<std::byte>(block == blocks_.end() ? 0 : block->second);
      }
      break;
    case Verb::kWrite: {
      uint64_t block = range.offset / kBlock;
      for (const http::BodyPart& part : request.parts)
        for (uint64_t i = 0; i < part.length; i += kBlock)
          blocks_[block++] = part.data == nullptr ? '0' : static_cast<const char*>(part.data)[i];
      break;
    }
    case Verb::kZero:
      for (uint64_t at = range.offset; at < range.end(); at += kBlock) blocks_[at / kBlock] = '0';
      break;
    case Verb::kFlush: break;
  }
  return reply;
}

void Server::fail(Verb verb, const Status& failure, uint64_t times) {
  on_request([this, verb, failure, left = std::make_shared<uint64_t>(times)](
                 const Asked& asked, const http::Request& request) -> Result<http::Reply> {
    if (asked.verb != verb || *left == 0) return answer(asked, request);
    --*left;
    return failure;
  });
}

void Server::refuse(Verb verb, int status) {
  on_request([this, verb, status](const Asked& asked,
                                  const http::Request& request) -> Result<http::Reply> {
    if (asked.verb != verb) return answer(asked, request);
    return ok(status);
  });
}

void Server::release(size_t count) {
  released_ += count;
  changed();
}

void Server::release_all() {
  held_ = false;
  holds_.clear();
  changed();
}

void Server::let_go(const Asked& asked) {
  std::erase(holds_, asked);
  changed();
}

Requests Server::requests() const {
  Requests requests;
  for (const Sent& sent : sent_) requests.push_back(sent.asked);
  return requests;
}

size_t Server::count(const Asked& asked) const {
  return static_cast<size_t>(std::count_if(
      sent_.begin(), sent_.end(), [&](const Sent& sent) { return sent.asked == asked; }));
}

size_t Server::count(Verb verb) const {
  return static_cast<size_t>(std::count_if(
      sent_.begin(), sent_.end(), [&](const Sent& sent) { return sent.asked.verb == verb; }));
}

void Server::await_sent(size_t count) {
  while (sent_.size() < count) sim::scheduler().wait(changed_, "requests");
}

void Server::await(const Asked& asked) {
  while (count(asked) == 0) sim::scheduler().wait(changed_, "a request");
}

std::string Server::content(uint64_t block, uint64_t count) const {
  std::string text;
  for (uint64_t i = 0; i < count; ++i) {
    const auto found = blocks_.find(block + i);
    text += found == blocks_.end() ? '.' : found->second;
  }
  return text;
}

}  // namespace upload::script
