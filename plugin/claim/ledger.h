// SPDX-License-Identifier: BSD-3-Clause
//
// Ledger: where it is kept who has the claim of one volume, and the volume's state. An
// implementation does what has to be atomic, and decides nothing: which state may be taken
// over, by whom, and when to renew is Claim's.
//
// What each implementation promises: of any number of processes that take() at the same time,
// after they have seen the same, at most one succeeds; and while that one holds the claim, as
// long as renew() says, nobody else's take() does. A hold that ends without a last write()
// leaves the record as it is.
//
// Failures of all methods: kInvalid, what is there is no ledger, or is damaged: trying again
// does not help; kConnect, kLost and others, nobody knows: it may help. Texts name the parameter.
// Each method returns soon after `until`, with a failure, if it has to wait for others.
//
// One thread at a time, but for interrupt().

#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "claim/record.h"

namespace upload::claim {

// What there was to be seen at one moment.
struct Seen {
  std::optional<Record> record;  // nothing: no process has ever had the claim
  bool held = false;             // somebody else has the claim now
  std::string version;           // the ledger's own
};

class Ledger {
 public:
  // Where a claim ends with a lease it is not good any more so long before that. Requests are cut
  // off, which takes libcurl a second at most; the clocks of two hosts may go a little differently.
  static constexpr Duration kMargin = std::chrono::seconds(2);

  virtual ~Ledger() = default;

  // The parameter, for texts: "claim=file:/var/lib/claims".
  [[nodiscard]] virtual const std::string& name() const = 0;
  // How often to renew(), at least.
  [[nodiscard]] virtual Duration renew_every() const = 0;

  virtual Result<Seen> look(BootTime until) = 0;
  // If all is as it was seen, and nobody holds the claim: holds it, and writes the record. Until
  // when the claim is good then; nothing: it is not so any more.
  virtual Result<std::optional<BootTime>> take(const Seen& seen, const Record& record,
                                               BootTime until) = 0;
  // After take(). Until when the claim is good now; kClaimLost: it is not ours any more.
  virtual Result<BootTime> renew(BootTime until) = 0;
  // After take(): writes the record, unless the claim is not ours any more (kClaimLost).
  virtual Status write(const Record& record, BootTime until) = 0;
  // The same, and lets go of the claim in one step with it. May be repeated after a failure.
  virtual Status let_go(const Record& record, BootTime until) = 0;

  // Makes a method that is under way fail soon, and later ones but let_go(). Any thread.
  virtual void interrupt() {}
};

}  // namespace upload::claim
