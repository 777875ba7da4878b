// SPDX-License-Identifier: BSD-3-Clause
//
// What an end of the process depends on that nbdkit does not tell without a wait: its
// sleep alone tells that it is to end (nbdkit_nanosleep(3)), and prints a line first, which
// takes as long as standard error is full.

#pragma once

namespace upload {

// Whether standard error takes a line now; waits up to so many milliseconds for that.
// Thread safe.
[[nodiscard]] bool standard_error_takes_a_line(int patience_ms);

// From now on the signals that end nbdkit are noticed before it handles them. Call it once,
// when nbdkit has set its handlers (after_fork) and before any thread is started. The
// plugin's code must stay where it is afterwards (-z nodelete).
void notice_ending_signals();

// Whether one has come. Thread safe.
[[nodiscard]] bool ending_signal_has_come();

}  // namespace upload
