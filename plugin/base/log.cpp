// SPDX-License-Identifier: BSD-3-Clause
//
// The log's flags and sinks. The flags are looked up by name in the plugin's
// file by nbdkit, hence C linkage and default visibility. Until sinks are set
// (unit tests), nothing is printed.

#include "base/log.h"

#include <cstdarg>
#include <cstdio>
#include <new>

#include "base/format.h"
#include "base/printable.h"
#include "base/redact.h"

#define EXPORTED_FLAG(name) __attribute__((visibility("default"))) int upload_debug_##name = 0

extern "C" {
EXPORTED_FLAG(pool);
EXPORTED_FLAG(keeper);
EXPORTED_FLAG(http);
EXPORTED_FLAG(queue);
EXPORTED_FLAG(journal);
EXPORTED_FLAG(session);
EXPORTED_FLAG(claim);
EXPORTED_FLAG(stats);
EXPORTED_FLAG(core);
}

namespace upload {

namespace {

void nowhere(const char*) {}

void print(log::Sink sink, const char* format, va_list args) noexcept {
  try {
    sink(log::line(vformat(format, args)).c_str());
  } catch (const std::bad_alloc&) {
    sink("out of memory");
  }
}

// Constant after start-up.
log::Sinks all_sinks = {nowhere, nowhere, nowhere};

}  // namespace

namespace log {

void set_sinks(const Sinks& sinks) { all_sinks = sinks; }

std::string line(const std::string& text) { return printable(redacted(text)); }

void debug(const char* format, ...) {
  va_list args;
  va_start(args, format);
  print(all_sinks.debug, format, args);
  va_end(args);
}

void warning(const char* format, ...) {
  va_list args;
  va_start(args, format);
  print(all_sinks.warning, format, args);
  va_end(args);
}

void notice(const char* format, ...) {
  va_list args;
  va_start(args, format);
  print(all_sinks.notice, format, args);
  va_end(args);
}

}  // namespace log
}  // namespace upload
