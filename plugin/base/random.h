// SPDX-License-Identifier: BSD-3-Clause
//
// Random numbers for pauses, so that many clients of a server don't act in
// step. Nothing that is secret is made of them. Thread safe.

#pragma once

namespace upload {

// From `least` up to, but not, `bound`.
[[nodiscard]] double random_between(double least, double bound);

}  // namespace upload
