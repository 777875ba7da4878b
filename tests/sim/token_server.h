// SPDX-License-Identifier: BSD-3-Clause
//
// TokenServer: a model of an OAuth 2.0 token endpoint, at the level of http::Connection. Its
// tokens expire, may be taken back, and it fails like any server. It says of a token whether
// an upload server takes it.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "http/connection.h"
#include "http/origin.h"
#include "sim/scheduler.h"

namespace upload::sim {

class TokenServer {
 public:
  // What the plugin connects with; the server outlives the connections.
  [[nodiscard]] http::Connector connector();

  // --- How it behaves; may be changed at any time ---
  std::optional<Duration> life;  // of a token; nothing: it lasts, and is not told
  uint64_t fails = 0;            // in a thousand requests: an error, or nonsense
  Duration latency = std::chrono::milliseconds(2);
  bool one_at_a_time = true;  // all share a session: two requests at a time are a fault of theirs

  // Connections are refused, or not answered, until then.
  void go_away(Duration time, bool silent);
  // No token that it has given is good any more.
  void take_back() { good_.clear(); }

  enum class Verdict { kGood, kExpired, kUnknown };
  // Of the value of an Authorization field.
  [[nodiscard]] Verdict judge(const std::string& authorization) const;

  // Since when it is there; nothing: it is away.
  [[nodiscard]] std::optional<TimePoint> well_since() const;
  [[nodiscard]] bool has_hung() const { return has_hung_; }
  [[nodiscard]] uint64_t faults() const { return faults_; }
  [[nodiscard]] uint64_t open_connections() const { return under_way_; }
  // The process that had the connections is gone.
  void lose_all_connections() { under_way_ = 0; }

 private:
  friend class TokenConnection;
  http::Reply answer();

  TimePoint away_until_;
  bool silent_ = false;
  bool has_hung_ = false;
  uint64_t faults_ = 0;
  uint64_t under_way_ = 0;
  uint64_t last_token_ = 0;
  std::map<std::string, TimePoint> good_;  // authorizations, until when
};

}  // namespace upload::sim
