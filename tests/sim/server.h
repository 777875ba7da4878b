// SPDX-License-Identifier: BSD-3-Clause
//
// Server: a model of an image upload server at the level of http::Connection.
// It speaks one of the plugin's protocols (sim/protocol.h), keeps an Image, and fails in every way
// that a client can see; when and how is drawn from the schedule's seed.
//
// It has several disks, each with a path of its own (path_of()). What page blobs and WebDAV files
// have acknowledged is stable at once; of a WebDAV PUT that fails any first part may be done.
//
// It outlives the plugin's lives. What it does behind a client's back (a late
// copy of a request, the loss of unflushed changes) are events of the
// scheduler.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "http/connection.h"
#include "http/origin.h"
#include "sim/image.h"
#include "sim/protocol.h"
#include "sim/scheduler.h"
#include "sim/token_server.h"

namespace upload::sim {

// How it behaves; may be changed at any time.
struct Behaviour {
  // In a thousand requests, of each kind.
  uint64_t lost = 0;        // the connection is reset: before, within or after the request
  uint64_t refused = 0;     // an error status
  uint64_t stalls = 0;      // nothing is heard for the client's time-out
  uint64_t slow = 0;        // it takes most of the client's time-out, and succeeds
  uint64_t lies = 0;        // a reply that makes no sense
  uint64_t last = 0;        // a reply that ends the connection
  uint64_t closes = 0;      // the connection is closed while it is idle
  uint64_t not_opened = 0;  // a connection can't be made
  // In a hundred: a request whose connection was lost, or that was refused,
  // is applied later.
  uint64_t late = 0;
  // Some of what a lost connection had not flushed becomes stable.
  bool harsh = false;
  bool silly_retry_after = false;
  Duration latency = std::chrono::milliseconds(2);
};

struct ServerOptions {
  Protocol protocol = Protocol::kImageio;
  unsigned disks = 1;
  uint64_t size = 0;     // of each
  bool missing = false;  // the disks are to be created
  // The reply to so many requests is the last of a connection; 0: there is no limit.
  unsigned max_requests = 0;
  bool can_flush = true;
  bool can_zero = true;
  bool can_extents = true;
  unsigned max_connections = 8;
  // Something on the way refuses requests with more than that; 0: nothing does. Bytes.
  uint64_t largest_body = 0;
  // A ticket of which no request comes for so long expires; 0: it does not.
  Duration ticket_life{0};
  // 403 in place of 401 for a token whose time is over.
  bool expired_is_403 = false;
  // Each request of a connection goes on over any of so many upstream
  // connections; 0: there is no proxy.
  unsigned upstreams = 0;
};

class Server {
 public:
  explicit Server(const ServerOptions& options)
      : options_(options),
        disks_(options.disks, Disk{.image = Image(options.size), .exists = !options.missing}) {}

  // What the plugin connects with; the server outlives the connections.
  [[nodiscard]] http::Connector connector();
  // Is told at the moment in which a request to that disk is sent that has a fence.
  std::function<void(unsigned disk)> on_sent;
  // Who says which tokens are good; null: none is needed.
  const TokenServer* tokens = nullptr;

  Behaviour behaviour;
  // Connections are refused, or not answered, until then; those there are are
  // reset.
  void go_away(Duration time, bool silent);
  // Nothing is answered until then, what is sent meanwhile is done afterwards.
  void freeze(Duration time);
  // Requests for one disk are not answered until then.
  void freeze_disk(unsigned disk, Duration time);
  // The tickets are new.
  void renew_tickets();
  // 403 for one disk until then.
  void deny(unsigned disk, Duration time);

  [[nodiscard]] const Image& image(unsigned disk) const { return disks_[disk].image; }
  [[nodiscard]] const ServerOptions& options() const { return options_; }
  // Since when all of this is over, for one disk or for all; nothing: it is not.
  [[nodiscard]] std::optional<TimePoint> well_since(unsigned disk) const;
  [[nodiscard]] std::optional<TimePoint> well_since() const;
  // It has kept somebody waiting without an answer, once at least.
  [[nodiscard]] bool has_hung() const { return has_hung_; }
  [[nodiscard]] uint64_t faults() const { return faults_; }
  [[nodiscard]] uint64_t requests() const { return requests_; }
  [[nodiscard]] uint64_t open_connections() const { return open_connections_; }
  // The files beside the disks by which WebDAV was probed, and that are still there.
  [[nodiscard]] uint64_t probe_files() const { return probes_.size(); }
  // The process that had the connections is gone. What it had under way may
  // come within `late`.
  void lose_all_connections(Duration late);

 private:
  friend class SimConnection;
  struct Wire;  // the server's end of a connection
  struct Disk {
    Image image;
    bool exists = true;
    TimePoint denied_until{};
    TimePoint frozen_until{};
    // When the last of its requests came, since it had not expired.
    TimePoint ticket_used{};
    // When the last of its requests began that were answered.
    TimePoint answered{};
  };

  Result<http::Reply> serve(Wire& wire, const http::Request& request, const http::Origin& origin);
  Result<http::Reply> decide(Wire& wire, const Asked& request, const http::Request& asked,
                             const http::Origin& origin, std::optional<int> unauthorized);
  Status hang(Wire& wire, Duration time);
  bool thaws(Wire& wire, const Asked& request, const http::Origin& origin);
  Status lost(Wire& wire, const char* why);
  void apply(Wire& wire, const Asked& request, bool partly);
  void apply_at(TimePoint when, Asked request);
  void apply_late(const Asked& request, TimePoint lost);
  void settle(Wire& wire, const Asked& request, Duration timeout, bool whole);
  void close_later(const Wire& wire);
  void wake_frozen();
  [[nodiscard]] TimePoint frozen_until(const Asked& request) const;
  [[nodiscard]] static uint64_t first_part(ByteRange range);
  void apply_to_probe(const Asked& request);
  [[nodiscard]] Asked parse(const http::Request& asked) const;
  Result<http::Reply> answer(Wire& wire, const Asked& request, const http::Request& asked);
  [[nodiscard]] http::Reply offer(const Asked& request) const;
  http::Reply changed(Wire& wire, const Asked& request);
  [[nodiscard]] http::Reply read(const Asked& request, const http::Request& asked) const;
  Result<http::Reply> extents(const Asked& request, const http::Request& asked);
  http::Reply refuse(Wire& wire, const Asked& request, const http::Origin& origin);
  http::Reply error(int status, const char* code = "");
  [[nodiscard]] std::optional<int> refusal(const http::Request& asked) const;
  void lose(Wire& wire);
  Image::Client client_of(Wire& wire);
  [[nodiscard]] static std::string extents_in_json(const Image& image);
  std::string extents_in_xml(const Image& image, uint64_t marker);
  bool per_mille(uint64_t chance) { return scheduler().random().below(1000) < chance; }
  Duration some_of(Duration time);

  const ServerOptions options_;
  std::vector<Disk> disks_;
  Image::Client last_client_ = 0;
  std::map<uint64_t, Wire*> wires_;
  uint64_t last_wire_ = 0;
  std::vector<Image::Client> upstreams_;
  std::map<std::string, std::vector<char>> probes_;  // by their paths
  TimePoint away_until_;
  bool silent_ = false;
  TimePoint frozen_until_;
  bool has_hung_ = false;
  WaitList frozen_;
  uint64_t faults_ = 0;
  uint64_t requests_ = 0;
  uint64_t open_connections_ = 0;
};

}  // namespace upload::sim
