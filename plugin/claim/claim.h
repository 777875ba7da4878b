// SPDX-License-Identifier: BSD-3-Clause
//
// Claim: the exclusive right of one process to upload to one volume, and the fence that says
// until when the right is certain.
//
// All decisions are here: what may be taken, by whom; what becomes of the state at the end; when
// to renew. How the right is kept, and for which processes, is the ledger's.
//
//   a state              the claim is held          it is not
//   available            another has it             taken
//   uploading            another has it             its holder has died: taken by steal only
//   complete, failed     another has it             taken by steal only
//
// A live claim is never taken. Whoever waits does so for the claim of another to end.
//
// nbdkit forks between acquire() and start(). What acquire() takes keeps the state that was
// there: until start() nothing of the volume has been changed, and a process that ends in between
// leaves nothing behind that has to be stolen.
//
// acquire(), renew_if_due(), start(), stop() and let_go() belong to one thread.

#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/fence.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "claim/ledger.h"

namespace upload::claim {

class Claim {
 public:
  struct Options {
    Duration wait{0};    // for another's claim to end
    bool steal = false;  // also what was left, has failed or is complete
  };
  // Sleeps for so long at most. True: the process is to end; returns soon then.
  using Sleep = std::function<bool(Duration)>;

  // `clock` outlives the claim.
  Claim(std::unique_ptr<Ledger> ledger, const Options& options, Clock& clock);
  // stop(); what is held then ends with the process, or its time.
  ~Claim();
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

  // Takes the claim. kClaimed: another has it, or steal is needed; the text names who it is.
  // `meanwhile` is called while it waits, at least every few seconds.
  Status acquire(const Sleep& sleep_unless_ending, const std::function<void()>& meanwhile = {});
  // Until start(). A failure shows in the fence.
  void renew_if_due();

  // Until when requests may be under way. Lives as long as the claim. Any thread.
  [[nodiscard]] const Fence& fence() const { return fence_; }

  // In the process that uploads. Sets the state to uploading, and starts the thread that renews
  // the claim. `lost` is called once, if the claim is lost or runs out, on any thread, with
  // kClaimLost.
  void start(std::function<void(const Status&)> lost);
  // Ends the thread. Repeatable.
  void stop() EXCLUDES(mutex_);
  // After stop(): gives the claim back, with that state; nothing: with the one that was there
  // before. Returns within a few seconds.
  Status let_go(std::optional<State> state);

  // The parameter, for texts.
  [[nodiscard]] const std::string& name() const { return ledger_->name(); }

 private:
  // What has come of one attempt to take it.
  struct Attempt {
    Status status;
    bool may_pass = false;  // the failure may be another one soon
  };
  Attempt try_once();
  [[nodiscard]] Status refusal(const Seen& seen) const;
  bool renew();
  void run() EXCLUDES(mutex_);
  void lose(const std::string& why);
  [[nodiscard]] std::string taken_by();
  [[nodiscard]] TimePoint next_look() const;

  const std::unique_ptr<Ledger> ledger_;
  const Options options_;
  Clock& clock_;
  Fence fence_;

  // Of the thread that acquires, then of the one that renews.
  Owner self_;
  std::optional<Record> before_;  // the record that was taken over
  uint64_t generation_ = 0;       // 0: never taken
  TimePoint renewal_due_ = TimePoint::max();
  Status failure_;  // of the last renewal
  std::function<void(const Status&)> lost_;

  Mutex mutex_;
  CondVar stop_requested_;
  bool stopping_ GUARDED_BY(mutex_) = false;

  Thread thread_;
};

}  // namespace upload::claim
