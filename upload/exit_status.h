// SPDX-License-Identifier: BSD-3-Clause
//
// Exit statuses: what nbdupload tells the program that has started it.
//
// Of several disks the worst counts: one that is incomplete, then one that has not passed its
// verification.

#pragma once

namespace nbdupload {

enum ExitStatus {
  kAllGood = 0,
  kIncomplete = 1,   // something may have been sent to a target, and not all has arrived
  kUsageError = 2,   // the command line is wrong; nothing was sent
  kNothingSent = 3,  // no target was written to
  kUnverified = 4,   // all targets are complete, but one differs or can't be compared
};

}  // namespace nbdupload
