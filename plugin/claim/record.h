// SPDX-License-Identifier: BSD-3-Clause
//
// Record: what a ledger keeps of a volume: its state, and who has set that.
//
// States: available -> uploading -> complete or failed. Values and pure functions; thread safe.

#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "http/url.h"

namespace upload::claim {

enum class State { kAvailable, kUploading, kComplete, kFailed };

struct Owner {
  std::string host;
  int64_t pid = 0;
  int64_t since = 0;  // seconds since 1970
  std::string id;     // random hexadecimal digits, another one for each claim

  friend bool operator==(const Owner&, const Owner&) = default;
};

struct Record {
  State state = State::kAvailable;
  // One more with each owner.
  uint64_t generation = 0;
  // The last one.
  Owner owner;

  friend bool operator==(const Record&, const Record&) = default;
};

// What a volume is called in a ledger: the SHA-256, in hexadecimal digits, of its name or, if that
// is empty, of its URL without the query.
[[nodiscard]] std::string hash_of(const std::string& name, const http::Url& url);

// This process, from now on, with a new id.
[[nodiscard]] Owner this_process(const Clock& clock);

// Another one each time (RFC 9562, section 5.4).
[[nodiscard]] std::string random_guid();

// "process 123 on host foo, since 2026-11-22 11:00:00 UTC"
[[nodiscard]] std::string describe(const Owner& owner);

// One line, at most kLongestRecord bytes.
inline constexpr size_t kLongestRecord = 1024;
[[nodiscard]] std::string to_json(const Record& record);
// What somebody has written. A failure (kInvalid) says what is wrong, as "is ..." or "has ...".
[[nodiscard]] Result<Record> from_json(const std::string& text);

}  // namespace upload::claim
