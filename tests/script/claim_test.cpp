// SPDX-License-Identifier: BSD-3-Clause
//
// A volume and the fence of its claim: what is not sent, what is not believed, and what is said
// of the disk at the end.

#include "base/fence.h"
#include "script/setup.h"

using namespace std::chrono_literals;
using namespace upload::script;
using upload::Fence;
using upload::Kind;
using upload::Status;
using upload::target::Durability;
using upload::volume::Volume;
using Outcome = upload::volume::Volume::Outcome;

namespace {

struct Claimed {
  explicit Claimed(Settings settings = {})
      : setup([&] {
          settings.fence = &fence;
          return settings;
        }()) {}

  // The claim is good for a minute.
  struct MinuteFence : Fence {
    explicit MinuteFence(const upload::Clock& clock) : Fence(clock) {
      (void)open_until(clock.boot_now() + 60s);
    }
  };

  upload::sim::SimClock clock;
  MinuteFence fence{clock};
  Setup setup;
};

}  // namespace

SCRIPT("after the end of the claim nothing is sent, and every request fails", "[claim]") {
  Claimed f;
  CHECK(f.setup.write(0).ok());
  CHECK(f.setup.flush().ok());
  const size_t sent = f.setup.server.sent().size();
  pass(60s);
  CHECK(f.setup.write(1).kind() == Kind::kClaimLost);
  CHECK(f.setup.zero(2).kind() == Kind::kClaimLost);
  CHECK(f.setup.flush().kind() == Kind::kClaimLost);
  CHECK(f.setup.server.sent().size() == sent);
}

SCRIPT("with a replay log neither, and it is not tried again", "[claim]") {
  Claimed f({.replay = 1 << 20});
  CHECK(f.setup.write(0).ok());
  const size_t sent = f.setup.server.sent().size();
  pass(60s);
  CHECK(f.setup.write(1).kind() == Kind::kClaimLost);
  pass(60s);
  CHECK(f.setup.flush().kind() == Kind::kClaimLost);
  CHECK(f.setup.server.sent().size() == sent);
}

SCRIPT("a write whose reply comes too late is not believed", "[claim]") {
  Claimed f;
  f.setup.server.hold();
  auto write = f.setup.start_write(0);
  f.setup.server.await_sent(1);
  pass(60s);
  f.setup.server.release_all();
  CHECK(write.get().kind() == Kind::kClaimLost);
}

SCRIPT("a flush whose reply comes too late does not succeed", "[claim]") {
  Claimed f;
  CHECK(f.setup.write(0).ok());
  f.setup.server.hold();
  auto flush = f.setup.start_flush();
  f.setup.server.await_sent(2);
  pass(60s);
  f.setup.server.release_all();
  CHECK(flush.get().kind() == Kind::kClaimLost);
}

SCRIPT("a flush that has nothing to send does not succeed either", "[claim]") {
  Claimed f({.durability = Durability::kOnReply});
  CHECK(f.setup.write(0).ok());
  CHECK(f.setup.flush().ok());
  pass(60s);
  CHECK(f.setup.flush().kind() == Kind::kClaimLost);
  CHECK(f.setup.server.sent().size() == 1);
}

SCRIPT("a volume that is told of the loss fails with the reason", "[claim]") {
  Claimed f;
  f.setup.volume->claim_lost({Kind::kClaimLost, "the claim was lost to somebody"});
  const Status status = f.setup.write(0);
  CHECK(status.kind() == Kind::kClaimLost);
  CHECK(status.text().find("the claim was lost to somebody") != std::string::npos);
}

SCRIPT("a disk is flushed when a client has flushed all that was acknowledged", "[claim]") {
  Setup f({});
  CHECK(f.volume->outcome() == Outcome::kUntouched);
  CHECK(f.flush().ok());
  CHECK(f.volume->outcome() == Outcome::kUntouched);
  CHECK(f.write(0).ok());
  CHECK(f.volume->outcome() == Outcome::kUnfinished);
  CHECK(f.flush().ok());
  CHECK(f.volume->outcome() == Outcome::kFlushed);
  CHECK(f.write(0, 'b', 1, true).ok());
  CHECK(f.volume->outcome() == Outcome::kUnfinished);
  CHECK(f.flush().ok());
  CHECK(f.volume->outcome() == Outcome::kFlushed);
  f.volume->claim_lost({Kind::kClaimLost, "lost"});
  CHECK(f.volume->outcome() == Outcome::kUnfinished);
}

SCRIPT("also where each change is stable when it is acknowledged", "[claim]") {
  Setup f({.durability = Durability::kOnReply});
  CHECK(f.write(0).ok());
  CHECK(f.volume->outcome() == Outcome::kUnfinished);
  CHECK(f.flush().ok());
  CHECK(f.volume->outcome() == Outcome::kFlushed);
}
