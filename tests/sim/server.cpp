// SPDX-License-Identifier: BSD-3-Clause
//
// One request, from the client's side: perhaps a connection is made, the request
// goes out, the server does something with it, an answer comes back; between
// these the fiber sleeps, so that others run and the world changes.
//
// What may become of a request that fails, by the text of the invariants:
//   - its connection is lost: it was not applied, it was, or it will be within
//     the client's time-out (a late copy);
//   - 408, 429 and 5xx: the same: a proxy may have sent it on;
//   - other 4xx: it is refused before its body is read.
// A late copy may come from a life of the plugin that has ended.

#include "sim/server.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

#include "fixture/model.h"

namespace upload::sim {

using namespace std::chrono_literals;

struct Server::Wire {
  uint64_t id = 0;
  bool open = false;             // made, and not closed by either side
  bool aborted = false;          // by the client
  std::optional<Asked> request;  // under way, and nothing done about it yet
  Image::Client client = 0;
  unsigned answered = 0;  // requests
  WaitList waits;
};

namespace {

std::string printed(const http::Request& request) { return request.what; }

}  // namespace

// The client's end.
class SimConnection final : public http::Connection {
 public:
  SimConnection(Server& server, std::shared_ptr<const http::Origin> origin,
                http::ConnectionEvents events)
      : server_(server), origin_(std::move(origin)), events_(std::move(events)) {}
  ~SimConnection() override { close(); }

  Result<http::Reply> perform(const http::Request& request) override {
    // The server may have closed it since anybody has looked.
    if (closed() || aborted_) return Status(Kind::kLost, "the connection is closed");
    if (!wire_.open && wire_.id == 0)
      if (Status status = open(); !status.ok()) {
        scheduler().note("%s: %s", printed(request).c_str(), status.text().c_str());
        closed_ = true;
        return status;
      }
    // As libcurl asks just before it sends.
    if (request.fence != nullptr && !request.fence->open()) {
      close();
      return request.fence->why();
    }
    if (request.fence != nullptr && server_.on_sent) server_.on_sent(disk_of(request));
    Result<http::Reply> reply = server_.serve(wire_, request, *origin_);
    wire_.request.reset();
    if (reply.ok() && events_.progress) events_.progress();
    scheduler().note("%s on %llu: %s", printed(request).c_str(),
                     static_cast<unsigned long long>(wire_.id),
                     reply.ok() ? std::to_string(reply.value().status).c_str()
                                : reply.status().text().c_str());
    if (!reply.ok() || reply.value().last) close();
    return reply;
  }
  bool unopened() const override { return wire_.id == 0 && !closed_; }
  bool closed() const override { return closed_ || (wire_.id != 0 && !wire_.open); }
  void abort() override {
    aborted_ = true;
    wire_.aborted = true;
    scheduler().wake_all(wire_.waits);
    server_.wake_frozen();
  }

 private:
  Status open() {
    scheduler().sleep(server_.some_of(20ms));
    if (aborted_) return {Kind::kLost, "the connection was shut down"};
    const bool away = scheduler().now() < server_.away_until_;
    if (away && server_.silent_) {
      (void)server_.hang(wire_, origin_->connect_timeout);
      return {Kind::kConnect, "could not connect in time"};
    }
    if (away || server_.per_mille(server_.behaviour.not_opened)) {
      ++server_.faults_;
      return {Kind::kConnect, "connection refused"};
    }
    wire_.id = ++server_.last_wire_;
    wire_.open = true;
    wire_.client = ++server_.last_client_;
    server_.wires_.emplace(wire_.id, &wire_);
    ++server_.open_connections_;
    if (events_.opened) events_.opened();
    return {};
  }
  void close() {
    closed_ = true;
    if (server_.wires_.erase(wire_.id) == 0) return;
    --server_.open_connections_;
    server_.lose(wire_);
  }

  Server& server_;
  const std::shared_ptr<const http::Origin> origin_;
  const http::ConnectionEvents events_;
  Server::Wire wire_;
  bool closed_ = false;
  bool aborted_ = false;
};

http::Connector Server::connector() {
  return [this](std::shared_ptr<const http::Origin> origin, ConnectionId,
                http::ConnectionEvents events) -> std::unique_ptr<http::Connection> {
    return std::make_unique<SimConnection>(*this, std::move(origin), std::move(events));
  };
}

Duration Server::some_of(Duration time) {
  return Duration(static_cast<Duration::rep>(
      scheduler().random().below(static_cast<uint64_t>(time.count()) + 1)));
}

// --- The world ------------------------------------------------------------

void Server::go_away(Duration time, bool silent) {
  scheduler().note(
      "server: away for %lld ms%s",
      static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(time).count()),
      silent ? ", silently" : "");
  away_until_ = std::max(away_until_, scheduler().now() + time);
  silent_ = silent;
  has_hung_ = has_hung_ || silent;
  for (const auto& [id, wire] : wires_) {
    if (!wire->open) continue;
    ++faults_;
    wire->open = false;
    lose(*wire);
    scheduler().wake_all(wire->waits);
  }
  wake_frozen();
}

void Server::freeze(Duration time) {
  scheduler().note("server: frozen for %lld ms",
                   static_cast<long long>(
                       std::chrono::duration_cast<std::chrono::milliseconds>(time).count()));
  frozen_until_ = std::max(frozen_until_, scheduler().now() + time);
  has_hung_ = true;
  scheduler().at(frozen_until_, [this] { wake_frozen(); });
}

void Server::freeze_disk(unsigned disk, Duration time) {
  scheduler().note("server: disk %u frozen for %lld ms", disk,
                   static_cast<long long>(
                       std::chrono::duration_cast<std::chrono::milliseconds>(time).count()));
  TimePoint& until = disks_[disk].frozen_until;
  until = std::max(until, scheduler().now() + time);
  has_hung_ = true;
  scheduler().at(until, [this] { wake_frozen(); });
}

void Server::wake_frozen() { scheduler().wake_all(frozen_); }

void Server::deny(unsigned disk, Duration time) {
  scheduler().note("server: denies disk %u", disk);
  TimePoint& until = disks_[disk].denied_until;
  until = std::max(until, scheduler().now() + time);
}

void Server::renew_tickets() {
  for (Disk& disk : disks_) disk.ticket_used = scheduler().now();
}

TimePoint Server::frozen_until(const Asked& request) const {
  return std::max(frozen_until_, disks_[request.disk].frozen_until);
}

std::optional<TimePoint> Server::well_since(unsigned disk) const {
  const TimePoint since = std::max(
      {away_until_, frozen_until_, disks_[disk].frozen_until, disks_[disk].denied_until});
  if (since > scheduler().now()) return std::nullopt;
  return since;
}

std::optional<TimePoint> Server::well_since() const {
  std::optional<TimePoint> latest;
  for (unsigned disk = 0; disk < options_.disks; ++disk) {
    const auto since = well_since(disk);
    if (!since) return std::nullopt;
    latest = latest ? std::max(*latest, *since) : *since;
  }
  return latest;
}

void Server::lose_all_connections(Duration late) {
  for (const auto& [id, wire] : wires_) {
    if (wire->request) settle(*wire, *wire->request, late, false);
    lose(*wire);
  }
  open_connections_ -= wires_.size();
  wires_.clear();
  frozen_ = WaitList();
}

// The server's storage client goes, with what it had not flushed.
void Server::lose(Wire& wire) {
  for (Disk& disk : disks_)
    disk.image.lose(wire.client,
                    [this] { return behaviour.harsh && scheduler().random().percent(50); });
  wire.client = ++last_client_;
}

Image::Client Server::client_of(Wire& wire) {
  if (options_.protocol != Protocol::kImageio) return 0;
  if (options_.upstreams == 0) return wire.client;
  while (upstreams_.size() < options_.upstreams) upstreams_.push_back(++last_client_);
  return upstreams_[scheduler().random().below(upstreams_.size())];
}

// --- A request ------------------------------------------------------------

Status Server::lost(Wire& wire, const char* why) {
  wire.open = false;
  ++faults_;
  return {Kind::kLost, why};
}

// Nothing is heard for a time, or until the connection is aborted or reset.
Status Server::hang(Wire& wire, Duration time) {
  const TimePoint until = scheduler().now() + time;
  const bool was_open = wire.open;
  while (!wire.aborted && wire.open == was_open && scheduler().now() < until)
    scheduler().wait(wire.waits, "the server", until);
  if (wire.aborted) return {Kind::kLost, "the connection was shut down"};
  if (wire.open != was_open) return {Kind::kLost, "connection reset"};
  return {};
}

Result<http::Reply> Server::serve(Wire& wire, const http::Request& asked,
                                  const http::Origin& origin) {
  ++requests_;
  soak::Random& random = scheduler().random();
  const TimePoint began = scheduler().now();
  const Asked request = parse(asked);
  wire.request = request;
  const std::optional<int> unauthorized = refusal(asked);
  if (Status status = hang(wire, some_of(behaviour.latency)); !status.ok()) {
    settle(wire, request, origin.timeout, false);
    return lost(wire, "connection reset while sending");
  }
  if (!thaws(wire, request, origin)) return lost(wire, "no progress within the time-out");
  if (per_mille(behaviour.lost)) {
    settle(wire, request, origin.timeout, false);
    return lost(wire, "connection reset");
  }
  if (per_mille(behaviour.stalls)) {
    wire.request.reset();
    const bool applied = random.percent(30);
    if (applied) apply(wire, request, false);
    const Status status = hang(wire, origin.timeout);
    if (!applied) settle(wire, request, origin.timeout, false);
    return lost(wire, status.ok() ? "no progress within the time-out" : "connection reset");
  }
  if (per_mille(behaviour.lies)) {
    settle(wire, request, origin.timeout, true);
    wire.open = false;
    ++faults_;
    return Status(Kind::kMalformed, "the reply makes no sense");
  }
  if (per_mille(behaviour.slow)) {
    if (Status status = hang(wire, origin.timeout * 9 / 10); !status.ok()) {
      settle(wire, request, origin.timeout, false);
      return lost(wire, "connection reset");
    }
    if (!thaws(wire, request, origin)) return lost(wire, "no progress within the time-out");
  }
  Result<http::Reply> decided = decide(wire, request, asked, origin, unauthorized);
  if (!decided.ok()) return decided;
  http::Reply reply = std::move(decided.value());
  TimePoint& answered = disks_[request.disk].answered;
  if (reply.status < 400) answered = std::max(answered, began);
  wire.request.emplace();  // what was to be done is done
  if (Status status = hang(wire, some_of(behaviour.latency)); !status.ok())
    return lost(wire, "connection reset before the reply");
  // imageio closes after a method that it does not know; a proxy does not.
  const bool unknown_method = reply.status == 405 && options_.upstreams == 0;
  const bool at_limit = ++wire.answered == options_.max_requests;
  if (unknown_method || at_limit ||
      (reply.status >= 400 ? random.percent(reply.status == 405 ? 0 : 30)
                           : per_mille(behaviour.last))) {
    reply.last = true;
    faults_ += unknown_method || at_limit ? 0 : 1;
    wire.open = false;
    lose(wire);
  } else if (per_mille(behaviour.closes)) {
    close_later(wire);
  }
  return reply;
}

// Whether it does what it is asked for, and what it says.
Result<http::Reply> Server::decide(Wire& wire, const Asked& request, const http::Request& asked,
                                   const http::Origin& origin, std::optional<int> unauthorized) {
  TimePoint& used = disks_[request.disk].ticket_used;
  const bool expired =
      options_.ticket_life > Duration::zero() && scheduler().now() - used > options_.ticket_life;
  if (!expired && !unauthorized) used = scheduler().now();
  if (unauthorized)
    return error(*unauthorized,
                 *unauthorized == 401 ? "InvalidAuthenticationInfo" : "AuthenticationFailed");
  if (expired) {
    scheduler().note("server: the ticket of disk %u has expired", request.disk);
    return error(403, "AuthenticationFailed");
  }
  if (scheduler().now() < disks_[request.disk].denied_until)
    return error(403, "AuthenticationFailed");
  if (per_mille(behaviour.refused)) return refuse(wire, request, origin);
  return answer(wire, request, asked);
}

// Waits while the server is frozen. False: the client, or the link, does not wait so long.
bool Server::thaws(Wire& wire, const Asked& request, const http::Origin& origin) {
  if (scheduler().now() >= frozen_until(request)) return true;
  soak::Random& random = scheduler().random();
  // The link may break meanwhile, which the server does not learn.
  const TimePoint give_up = scheduler().now() + (random.percent(30) ? some_of(origin.timeout)
                                                                    : Duration(origin.timeout));
  while (!wire.aborted && wire.open &&
         scheduler().now() < std::min(give_up, frozen_until(request)))
    scheduler().wait(frozen_, "a server that is frozen",
                     std::min(give_up, frozen_until(request)));
  if (!wire.aborted && wire.open && scheduler().now() >= frozen_until(request)) return true;
  // It has the request, and does it when it thaws.
  if (behaviour.late > 0 && random.percent(60))
    apply_at(std::max(frozen_until(request), scheduler().now()) + some_of(origin.timeout / 2),
             request);
  return false;
}

// For want of a good token.
std::optional<int> Server::refusal(const http::Request& asked) const {
  if (tokens == nullptr) return std::nullopt;
  const TokenServer::Verdict verdict = tokens->judge(asked.authorization);
  if (verdict == TokenServer::Verdict::kGood) return std::nullopt;
  return verdict == TokenServer::Verdict::kExpired && options_.expired_is_403 ? 403 : 401;
}

void Server::close_later(const Wire& wire) {
  scheduler().at(scheduler().now() + some_of(90s), [this, id = wire.id] {
    const auto found = wires_.find(id);
    if (found == wires_.end() || found->second->request || !found->second->open) return;
    scheduler().note("server: closes idle connection %llu", static_cast<unsigned long long>(id));
    ++faults_;
    found->second->open = false;
    lose(*found->second);
  });
}

// Says why it does not do what it is asked for, or says so only.
http::Reply Server::refuse(Wire& wire, const Asked& request, const http::Origin& origin) {
  struct Refusal {
    int status;
    const char* code;
  };
  static constexpr Refusal kImageio[] = {{500, ""}, {503, ""}, {503, ""}, {502, ""},
                                         {504, ""}, {429, ""}, {408, ""}};
  static constexpr Refusal kAzure[] = {{503, "ServerBusy"},
                                       {503, "ServerBusy"},
                                       {500, "OperationTimedOut"},
                                       {500, "InternalError"},
                                       {503, ""},
                                       {502, ""},
                                       {504, ""}};
  soak::Random& random = scheduler().random();
  const Refusal refusal =
      options_.protocol == Protocol::kAzure ? random.any_of(kAzure) : random.any_of(kImageio);
  const int status = refusal.status;
  http::Reply reply = error(status, refusal.code);
  ++faults_;
  // That one is known to be done nothing about.
  if (std::string_view(refusal.code) == "ServerBusy") return reply;
  settle(wire, request, origin.timeout, true);
  if (request.flushes || status == 500 || status == 502 || status == 504) lose(wire);
  return reply;
}

// Decides what becomes of a request that has failed. What prepares a disk does not come late.
void Server::settle(Wire& wire, const Asked& request, Duration timeout, bool whole) {
  soak::Random& random = scheduler().random();
  if (request.verb == Asked::Verb::kCreate || !request.probe.empty()) {
    if (random.percent(50)) apply(wire, request, false);
    return;
  }
  if (!request.changes()) return;
  if (random.percent(behaviour.late)) {
    // Not at the very end of the time-out: nobody can measure that.
    apply_at(scheduler().now() + some_of(timeout * 99 / 100), request);
  } else if (random.percent(50)) {
    apply(wire, request, !whole && random.percent(50));
  }
}

void Server::apply_at(TimePoint when, Asked request) {
  if (!request.changes()) return;
  scheduler().at(when, [this, request = std::move(request), lost = scheduler().now()] {
    apply_late(request, lost);
  });
}

// A server that was frozen before it has shown that it is alive since the loss does
// what it has when it thaws.
void Server::apply_late(const Asked& request, TimePoint lost) {
  if (scheduler().now() < frozen_until(request) && disks_[request.disk].answered <= lost) {
    scheduler().at(frozen_until(request) + some_of(1s), [=, this] { apply_late(request, lost); });
    return;
  }
  scheduler().note("server: late copy of %llu bytes at %llu",
                   static_cast<unsigned long long>(request.range.length),
                   static_cast<unsigned long long>(request.range.offset));
  ++faults_;
  const uint64_t length =
      options_.protocol == Protocol::kWebdav && scheduler().random().percent(20)
          ? first_part(request.range)
          : request.range.length;
  disks_[request.disk].image.change(
      0, {request.range.offset, length},
      {request.data.begin(), request.data.begin() + static_cast<std::ptrdiff_t>(length)});
}

// Of a request that is broken off, in bytes: cut where the model's cells are.
uint64_t Server::first_part(ByteRange range) {
  const uint64_t first = fixture::Geometry::cell_at(range.offset);
  const uint64_t cells = fixture::Geometry::cell_at(range.end()) - first;
  return fixture::Geometry::offset_of(first + scheduler().random().below(cells + 1)) -
         range.offset;
}

// `partly`: its first part only. Pages are put whole or not at all.
void Server::apply(Wire& wire, const Asked& request, bool partly) {
  Disk& disk = disks_[request.disk];
  if (request.verb == Asked::Verb::kCreate) disk.exists = true;
  if (!request.probe.empty()) return apply_to_probe(request);
  if (!request.changes()) return;
  const Image::Client client = client_of(wire);
  ByteRange range = request.range;
  if (partly && options_.protocol != Protocol::kAzure) {
    range.length = first_part(range);
    if (range.length == 0) return;
  }
  disk.image.change(
      client, range,
      {request.data.begin(), request.data.begin() + static_cast<std::ptrdiff_t>(range.length)});
  if (request.flushes && range == request.range) disk.image.flush(client);
}

void Server::apply_to_probe(const Asked& request) {
  if (request.verb == Asked::Verb::kRemove) {
    probes_.erase(request.probe);
  } else if (request.verb == Asked::Verb::kChange) {
    std::vector<char>& file = probes_[request.probe];
    if (request.whole) file.clear();
    file.resize(std::max<uint64_t>(file.size(), request.range.end()));
    std::copy(request.data.begin(), request.data.end(),
              file.begin() + static_cast<std::ptrdiff_t>(request.range.offset));
  }
}

Asked Server::parse(const http::Request& asked) const {
  Asked request = sim::parse(options_.protocol, asked, options_.size);
  require(request.disk < options_.disks, "a request for no disk");
  const bool is_missing = !disks_[request.disk].exists;
  if (is_missing && options_.protocol == Protocol::kWebdav && request.changes())
    request.verb = Asked::Verb::kCreate;
  return request;
}

uint64_t body_length(const http::Request& request) {
  uint64_t length = 0;
  for (const http::BodyPart& part : request.parts) length += part.length;
  return length;
}

// --- Answers --------------------------------------------------------------

Result<http::Reply> Server::answer(Wire& wire, const Asked& request, const http::Request& asked) {
  using Verb = Asked::Verb;
  http::Reply reply;
  reply.status = 200;
  switch (request.verb) {
    case Verb::kOffer: return offer(request);
    case Verb::kDirect: reply.status = 405; return reply;
    case Verb::kExtents: return extents(request, asked);
    case Verb::kRead: return read(request, asked);
    case Verb::kFlush: disks_[request.disk].image.flush(client_of(wire)); return reply;
    case Verb::kChange:
    case Verb::kCreate:
    case Verb::kRemove: break;
  }
  if (options_.largest_body > 0 && body_length(asked) > options_.largest_body)
    return error(413, "");
  return changed(wire, request);
}

http::Reply Server::offer(const Asked& request) const {
  http::Reply reply;
  reply.status = 200;
  if (!disks_[request.disk].exists) {
    reply.status = 404;
    if (options_.protocol == Protocol::kAzure)
      reply.headers.set("x-ms-error-code", "BlobNotFound");
    return reply;
  }
  if (options_.protocol != Protocol::kImageio) {
    reply.headers.set("Content-Length", std::to_string(options_.size));
    if (options_.protocol == Protocol::kAzure) reply.headers.set("x-ms-blob-type", "PageBlob");
    return reply;
  }
  nlohmann::json features = nlohmann::json::array();
  if (options_.can_flush) features.push_back("flush");
  if (options_.can_zero) features.push_back("zero");
  if (options_.can_extents) features.push_back("extents");
  reply.body = nlohmann::json{{"features", features},
                              {"max_readers", options_.max_connections},
                              {"max_writers", options_.max_connections}}
                   .dump();
  return reply;
}

http::Reply Server::changed(Wire& wire, const Asked& request) {
  http::Reply reply;
  const bool was_there =
      request.probe.empty() ? disks_[request.disk].exists : probes_.contains(request.probe);
  if (options_.protocol == Protocol::kAzure && request.verb == Asked::Verb::kCreate && was_there)
    return error(409, "BlobAlreadyExists");
  require(was_there || request.verb == Asked::Verb::kCreate || !request.probe.empty(),
          "a change of a disk that is not there");
  apply(wire, request, false);
  switch (options_.protocol) {
    case Protocol::kImageio: reply.status = 200; break;
    case Protocol::kAzure: reply.status = 201; break;
    case Protocol::kWebdav: reply.status = was_there ? 204 : 201; break;
  }
  return reply;
}

http::Reply Server::read(const Asked& request, const http::Request& asked) const {
  http::Reply reply;
  const auto probe = probes_.find(request.probe);
  if (!request.probe.empty() && probe == probes_.end()) {
    reply.status = 404;
    return reply;
  }
  const std::vector<char>& content =
      request.probe.empty() ? disks_[request.disk].image.view() : probe->second;
  const ByteRange range = request.range;
  if (range.end() > content.size()) {
    reply.status = 416;
    return reply;
  }
  memcpy(asked.sink.data(), content.data() + range.offset, range.length);
  reply.status = 206;
  reply.sunk = range.length;
  reply.headers.set("Content-Range", "bytes " + std::to_string(range.offset) + "-" +
                                         std::to_string(range.last()) + "/" +
                                         std::to_string(content.size()));
  return reply;
}

// A failure: the client does not take them.
Result<http::Reply> Server::extents(const Asked& request, const http::Request& asked) {
  http::Reply reply;
  reply.status = 200;
  const Image& image = disks_[request.disk].image;
  if (options_.protocol == Protocol::kImageio) {
    reply.body = extents_in_json(image);
    return reply;
  }
  const std::string text = extents_in_xml(image, request.marker);
  // A connection passes on what it has so far, and leaves the rest in the reply.
  const size_t first = scheduler().random().below(text.size() + 1);
  if (Status status = asked.body_sink->take(text.substr(0, first)); !status.ok()) return status;
  reply.body = text.substr(first);
  return reply;
}

http::Reply Server::error(int status, const char* code) {
  http::Reply reply;
  reply.status = status;
  if (options_.protocol == Protocol::kAzure && *code != '\0')
    reply.headers.set("x-ms-error-code", code);
  soak::Random& random = scheduler().random();
  if (status == 503 || status == 429) {
    static const char* const kSane[] = {"", "", "0", "1", "3"};
    static const char* const kSilly[] = {"3600", "99999999999999999999", "-1", "soon", "86400"};
    reply.headers.set("Retry-After", behaviour.silly_retry_after && random.percent(30)
                                         ? random.any_of(kSilly)
                                         : random.any_of(kSane));
  }
  return reply;
}

std::string Server::extents_in_json(const Image& image) {
  constexpr uint64_t kBlock = 4096;
  nlohmann::json list = nlohmann::json::array();
  for (uint64_t at = 0; at < image.size(); at += kBlock) {
    const uint64_t length = std::min(kBlock, image.size() - at);
    const char* const data = image.view().data() + at;
    const bool zero = std::all_of(data, data + length, [](char c) { return c == 0; });
    if (!list.empty() && list.back()["zero"] == zero)
      list.back()["length"] = list.back()["length"].get<uint64_t>() + length;
    else
      list.push_back({{"start", at}, {"length", length}, {"zero", zero}, {"hole", zero}});
  }
  return list.dump();
}

// Pages with data, and some with zeroes; a range of them may come in several, and the list in
// several pages.
std::string Server::extents_in_xml(const Image& image, uint64_t marker) {
  constexpr uint64_t kPage = 512;
  soak::Random& random = scheduler().random();
  const uint64_t most = random.between(1, 40);
  std::string text = "<?xml version=\"1.0\"?><PageList>";
  uint64_t ranges = 0;
  uint64_t at = marker;
  for (; at < image.size() && ranges < most; at += kPage) {
    const auto is_shown = [&](uint64_t offset) {
      const char* const data = image.view().data() + offset;
      return std::any_of(data, data + kPage, [](char c) { return c != 0; });
    };
    if (!is_shown(at) && !random.percent(5)) continue;
    const uint64_t start = at;
    while (at + kPage < image.size() && is_shown(at + kPage) && !random.percent(10)) at += kPage;
    text += "<PageRange><Start>" + std::to_string(start) + "</Start><End>" +
            std::to_string(at + kPage - 1) + "</End></PageRange>";
    ++ranges;
  }
  if (at < image.size()) text += "<NextMarker>page" + std::to_string(at) + "</NextMarker>";
  return text + "</PageList>";
}

}  // namespace upload::sim
