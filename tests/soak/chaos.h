// SPDX-License-Identifier: BSD-3-Clause
//
// What goes wrong in a round of the soak: a thread that programs faults into
// the server, cuts its connections, restarts it and takes it away for a while,
// in an order that the seed decides. It is paced by the server's counters, so a
// slow machine sees the same faults at the same requests, only later.
//
// Where the plugin is to survive all of it, answers are left out that no client can recover from:
// those that say that the ticket or the request is wrong.
// Errors: none.

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <thread>

#include "fixture/targets.h"
#include "server.h"
#include "soak/random.h"

namespace upload::soak {

class Chaos {
 public:
  // Starts at once. The server outlives it, and is started and stopped by
  // nobody else meanwhile. `survivable`: see above.
  Chaos(testserver::Server& server, const fixture::TargetKind& target, bool survivable,
        Random random);
  // stop()
  ~Chaos();
  Chaos(const Chaos&) = delete;
  Chaos& operator=(const Chaos&) = delete;

  // No more of it. The server serves when this returns; faults that have not
  // been met stay.
  void stop();

  // After stop(). How often each kind of mischief has happened.
  [[nodiscard]] const std::map<std::string, uint64_t>& happened() const { return happened_; }
  [[nodiscard]] uint64_t total() const;

 private:
  void run();
  void step();
  void fault();
  void burst();
  void connect_fault();
  void outage();
  testserver::Op random_op();
  testserver::Fault random_fault(std::string& name);
  void wait_for_requests(uint64_t more);
  void await(const std::string& name, const testserver::Fault& fault);

  testserver::Server& server_;
  const fixture::TargetKind& target_;
  const bool survivable_;
  Random random_;
  std::map<std::string, uint64_t> happened_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace upload::soak
