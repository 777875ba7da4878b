// SPDX-License-Identifier: BSD-3-Clause
//
// Mode: what a volume does about requests that fail and about connections that are lost.
//
//   FailAtOnce  without a replay log: a request that fails has failed, and once anything
//               that was acknowledged is lost, every request fails
//   Persist     with one: requests are repeated, and what was acknowledged over a connection
//               that is lost is sent again; with a fallback, changes go there meanwhile
//
// Thread safe.

#pragma once

#include <optional>

#include "base/connection_id.h"
#include "base/status.h"
#include "volume/core.h"
#include "volume/fallback.h"
#include "volume/pieces.h"
#include "volume/retry.h"
#include "volume/verdict.h"

namespace upload::volume {

class Mode {
 public:
  enum class Next { kTryAgain, kGiveUp, kFallback };

  virtual ~Mode() = default;
  // The volume's error latches with a verdict like this.
  [[nodiscard]] virtual bool latches(Latch latch) const = 0;
  // For one request, or for what is to be brought to the server with several.
  [[nodiscard]] virtual Retry make_retry(Purpose purpose) const = 0;
  // It has failed. Waits until it is time to try again. kFallback: the fallback has begun;
  // kGiveUp: the error may have latched, since what goes on failing so long is told to all.
  virtual Next after_failure(Retry& retry, const Status& failure) = 0;
  // What a request fails with that was given up after this failure.
  [[nodiscard]] virtual Status given_up(const Status& failure) const = 0;
  // When a change that began to wait for a connection then gives it up.
  [[nodiscard]] virtual TimePoint give_up_waiting_at(TimePoint since) const = 0;
  // A change is to go where an earlier one has failed, and the server may still be applying
  // that. ok(): it waits.
  [[nodiscard]] virtual Status may_wait_in_doubt() const = 0;
  // Changes of these ranges have failed, and the server may be applying them yet.
  virtual void put_in_doubt(const Pieces& pieces) = 0;
  // The pool has lost the connection.
  virtual void connection_lost(ConnectionId id, const Status& why) = 0;
};

class FailAtOnce final : public Mode {
 public:
  explicit FailAtOnce(Core& core) : core_(core) {}
  [[nodiscard]] bool latches(Latch latch) const override { return latch != Latch::kNever; }
  [[nodiscard]] Retry make_retry(Purpose purpose) const override;
  Next after_failure(Retry&, const Status&) override { return Next::kGiveUp; }
  [[nodiscard]] Status given_up(const Status& failure) const override { return failure; }
  [[nodiscard]] TimePoint give_up_waiting_at(TimePoint since) const override;
  [[nodiscard]] Status may_wait_in_doubt() const override;
  void put_in_doubt(const Pieces& pieces) override EXCLUDES(core_.mutex);
  void connection_lost(ConnectionId id, const Status& why) override EXCLUDES(core_.mutex);

 private:
  Core& core_;
};

class Persist final : public Mode {
 public:
  // `fallback` outlives the mode.
  Persist(Core& core, Fallback& fallback) : core_(core), fallback_(fallback) {}
  [[nodiscard]] bool latches(Latch latch) const override { return latch == Latch::kAlways; }
  [[nodiscard]] Retry make_retry(Purpose purpose) const override;
  Next after_failure(Retry& retry, const Status& failure) override EXCLUDES(core_.mutex);
  [[nodiscard]] Status given_up(const Status& failure) const override EXCLUDES(core_.mutex);
  [[nodiscard]] TimePoint give_up_waiting_at(TimePoint since) const override;
  [[nodiscard]] Status may_wait_in_doubt() const override { return {}; }
  void put_in_doubt(const Pieces& pieces) override EXCLUDES(core_.mutex);
  void connection_lost(ConnectionId id, const Status& why) override EXCLUDES(core_.mutex);

 private:
  void latch_given_up(const Retry& retry, const Status& failure) EXCLUDES(core_.mutex);

  Core& core_;
  Fallback& fallback_;
};

}  // namespace upload::volume
