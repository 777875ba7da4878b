// SPDX-License-Identifier: BSD-3-Clause
//
// SpoolState: where changes go.
//
//   direct      to the server; nothing is on the disk. Without a spool it is always so
//   spooling    the server does not answer: changes become rows of the spool, and what is in
//               memory moves there; the server is asked again and again
//   draining    it answers: rows go to the server, the oldest first; changes go to the
//               server too, except where there are rows
//
// Spooler::enter() alone changes it, and only as the table says.
//
// Values.

#pragma once

#include <array>

namespace upload::volume {

enum class SpoolState { kDirect, kSpooling, kDraining };

struct SpoolTransition {
  SpoolState from;
  SpoolState to;
  const char* why;
};
// docs/architecture.md shows it; tests/unit/documents_test.cpp compares.
inline constexpr std::array kSpoolTransitions = {
    SpoolTransition{SpoolState::kDirect, SpoolState::kSpooling,
                    "a request and its repetition have failed, or the first asks for time"},
    SpoolTransition{SpoolState::kDirect, SpoolState::kDraining,
                    "rows are left by an earlier run, or come late"},
    SpoolTransition{SpoolState::kSpooling, SpoolState::kDraining,
                    "the server has taken the oldest rows"},
    SpoolTransition{SpoolState::kDraining, SpoolState::kSpooling,
                    "a request and its repetition have failed, or the first asks for time"},
    SpoolTransition{SpoolState::kDraining, SpoolState::kDirect, "the spool is empty"},
};

[[nodiscard]] constexpr bool may_follow(SpoolState from, SpoolState to) {
  for (const SpoolTransition& each : kSpoolTransitions)
    if (each.from == from && each.to == to) return true;
  return false;
}

}  // namespace upload::volume
