// SPDX-License-Identifier: BSD-3-Clause
//
// Log: debug lines and warnings, one flag per concern.
//
// The flags are set by nbdkit from -D upload.NAME=1 (nbdkit(1), "-D"); they
// are constant once requests are served. Lines go to the sinks, which
// plugin.cpp points at nbdkit, as line() makes them. Thread safe.

#pragma once

#include <string>

extern "C" {
extern int upload_debug_pool;
extern int upload_debug_keeper;
extern int upload_debug_http;
extern int upload_debug_queue;
extern int upload_debug_journal;
extern int upload_debug_session;
extern int upload_debug_claim;
extern int upload_debug_stats;
// Not of lines: the process may be looked into, by debuggers and in core files.
extern int upload_debug_core;
}

namespace upload::log {

// What is printed of a text: one printable line (base/printable.h) without the secrets that
// are known (base/redact.h).
[[nodiscard]] std::string line(const std::string& text);

// Receives one line, without a newline.
using Sink = void (*)(const char* line);

// Call before any thread is started.
struct Sinks {
  Sink debug;
  Sink warning;
  Sink notice;
};
void set_sinks(const Sinks& sinks);

// Never throw: without memory for it a line is left out. A notice is what somebody has asked
// for: unlike a debug line it is printed without nbdkit -v.
void debug(const char* format, ...) __attribute__((format(printf, 1, 2)));
void warning(const char* format, ...) __attribute__((format(printf, 1, 2)));
void notice(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace upload::log

#define UPLOAD_DEBUG(concern, ...)                                    \
  do {                                                                \
    if (upload_debug_##concern != 0) upload::log::debug(__VA_ARGS__); \
  } while (false)
