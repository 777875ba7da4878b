// SPDX-License-Identifier: BSD-3-Clause
//
// Redaction: secrets that were registered are blanked out of every text on
// its way to a log or an error (invariant 10). It is the last gate, not the
// first: code does not put secrets into texts, but a server may echo one.
//
// Register while the configuration is read, before any thread is started;
// redacted() may then be called from any thread.

#pragma once

#include <string>
#include <string_view>

namespace upload {

// Texts shorter than `shortest` bytes are not kept: they would blank out
// innocent words.
void register_secret(std::string_view secret, size_t shortest = 8);

// `text` with each registered secret replaced by "...".
[[nodiscard]] std::string redacted(std::string text);

}  // namespace upload
