// SPDX-License-Identifier: BSD-3-Clause
//
// Matches requests with programmed faults.
//
// Every fault has its own count of the requests that match it, which starts when it is
// added, and a window of that count in which it is due. A request is counted by all
// faults that it matches, whether or not one fires: two faults at "the third put" are
// both over after the third put, although only the first of them happened. That keeps
// the meaning of one fault independent of the others.
//
// Invariant: a fault whose window has passed is no longer in the plan.
//
// Threads: any; one short lock. What a fault does is not known here.

#include "fault_plan.h"

#include <utility>

namespace upload::testserver {

namespace {

bool matches(const Fault& fault, Op op, const std::string& ticket) {
  const bool op_matches = fault.op == op || (fault.op == Op::any && op != Op::connect);
  return op_matches && (fault.ticket.empty() || fault.ticket == ticket);
}

/// Whether the window of the fault ends with its request number `seen`.
bool ends_at(const Fault& fault, std::uint64_t seen) {
  return fault.times != 0 && seen >= fault.nth + fault.times - 1;
}

}  // namespace

void FaultPlan::add(Fault fault) {
  auto shared = std::make_shared<const Fault>(std::move(fault));
  const std::lock_guard lock(mutex_);
  entries_.push_back({std::move(shared), 0});
}

void FaultPlan::clear() {
  const std::lock_guard lock(mutex_);
  entries_.clear();
}

FiredFault FaultPlan::match(Op op, const std::string& ticket) {
  const std::lock_guard lock(mutex_);
  FiredFault fired;
  std::erase_if(entries_, [&](Entry& entry) {
    if (!matches(*entry.fault, op, ticket)) {
      return false;
    }
    ++entry.seen;
    if (!fired && entry.seen >= entry.fault->nth) {
      fired = entry.fault;
    }
    return ends_at(*entry.fault, entry.seen);
  });
  return fired;
}

}  // namespace upload::testserver
