// SPDX-License-Identifier: BSD-3-Clause
//
// Redaction: secrets that were registered are blanked out of every text on
// its way to a log or an error (invariant 10). It is the last gate, not the
// first: code does not put secrets into texts, but a server may echo one.
//
// A server echoes what it was sent in the form of its own texts. So a secret is
// recognised as it is or in Base64, and with any of its bytes percent-encoded (RFC 3986),
// escaped as in JSON, C or Python, or as HTML's character references; and a secret that is
// percent-encoded itself also when it is decoded.
//
// Register while the configuration is read, before any thread is started, but for
// register_passing_secret(); that and the others may then be called from any thread.

#pragma once

#include <string>
#include <string_view>

namespace upload {

// Shorter secrets are not looked for in our own texts, where they would blank out
// innocent words.
inline constexpr size_t kShortestSecret = 8;

// Of a secret that is shorter, excerpt() shows nothing of a text that it occurs in.
void register_secret(std::string_view secret);

// Each part of a text that consists of several, such as a cookie's, and that is long enough.
void register_parts(std::string_view secret);

// A secret for which that is not enough, since whoever chose it may use it elsewhere: a
// password, a token. If it is shorter, excerpt() shows nothing at all.
void register_credential(std::string_view secret);

// A credential that is used for a while only, of which there come ever more: a token that a
// login has given. The last few are remembered.
void register_passing_secret(std::string_view secret);

// `text` with each registered secret replaced by "...".
[[nodiscard]] std::string redacted(std::string text);

// Whether a registered secret occurs in it, also a short one, in any of those forms.
[[nodiscard]] bool has_secret(const std::string& text);

// What of a text may be shown that somebody else has written, a server as a rule:
// redacted, at most 200 bytes, on one line (base/printable.h). "..." if a short secret
// might be in it.
[[nodiscard]] std::string excerpt(const std::string& text);

// For tests.
void forget_secrets();

// Base64 (RFC 4648), as credentials are sent in.
[[nodiscard]] std::string base64(std::string_view text);
// What is encoded, with padding or without; empty: it is not Base64.
[[nodiscard]] std::string from_base64(std::string_view text);

}  // namespace upload
