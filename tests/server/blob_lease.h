// SPDX-License-Identifier: BSD-3-Clause
//
// The lease on a blob: who alone may write to it, and until when.
// Source: learn.microsoft.com/rest/api/storageservices/lease-blob.

#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "http_syntax.h"

namespace upload::testserver {

/// A state machine without a clock or a lock: the caller says what time it is, and guards it.
/// A refusal's code is Azure's.
class BlobLease {
 public:
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::seconds;

  enum class State { available, leased, breaking, broken, expired };

  [[nodiscard]] State state(Clock::time_point now) const;
  [[nodiscard]] bool locked(Clock::time_point now) const;
  [[nodiscard]] bool infinite() const { return !duration_; }
  [[nodiscard]] const std::string& id() const { return id_; }

  /// `duration`: nothing for a lease without an end.
  [[nodiscard]] std::optional<Refusal> acquire(Clock::time_point now, const std::string& id,
                                               std::optional<Seconds> duration);
  [[nodiscard]] std::optional<Refusal> renew(Clock::time_point now, std::string_view id);
  [[nodiscard]] std::optional<Refusal> release(Clock::time_point now, std::string_view id);
  /// `period`: nothing for what is left. `left` becomes how long the holder may still write.
  [[nodiscard]] std::optional<Refusal> break_it(Clock::time_point now,
                                                std::optional<Seconds> period, Seconds& left);

  /// Whether a write, or a read, that shows `id` (empty: none) may go on.
  [[nodiscard]] std::optional<Refusal> check_write(Clock::time_point now,
                                                   std::string_view id) const;
  [[nodiscard]] std::optional<Refusal> check_read(Clock::time_point now,
                                                  std::string_view id) const;
  /// The blob was written to: a lease that is over can't be renewed any more.
  void written(Clock::time_point now);

 private:
  std::string id_;                   // empty: never leased, or released
  std::optional<Seconds> duration_;  // nothing: no end
  Clock::time_point end_{};          // of a lease with a duration, or of its breaking
  bool broken_ = false;              // breaking until end_, then broken
};

[[nodiscard]] std::string_view name_of(BlobLease::State state);

}  // namespace upload::testserver
