// SPDX-License-Identifier: BSD-3-Clause
//
// main() of the Catch2 programs. It also appends how many test cases passed
// and failed to the file that $UPLOAD_TEST_COUNTS names, where scripts/check
// adds up what all programs say.

#define CATCH_CONFIG_RUNNER
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "catch.h"

namespace {

unsigned long passed = 0;
unsigned long failed = 0;
unsigned long skipped = 0;

#if __has_include(<catch2/catch_all.hpp>)
using ListenerBase = Catch::EventListenerBase;
#else
using ListenerBase = Catch::TestEventListenerBase;
#endif

class Counter : public ListenerBase {
 public:
  using ListenerBase::ListenerBase;

  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    if (stats.totals.assertions.failed > 0 || stats.totals.testCases.failed > 0) ++failed;
#if __has_include(<catch2/catch_all.hpp>)
    else if (stats.totals.testCases.skipped > 0)
      ++skipped;
#endif
    else
      ++passed;
  }
};

CATCH_REGISTER_LISTENER(Counter)

}  // namespace

int main(int argc, char** argv) {
  // A server that closes a connection must not end the test.
  signal(SIGPIPE, SIG_IGN);
  const int result = Catch::Session().run(argc, argv);
  if (const char* path = getenv("UPLOAD_TEST_COUNTS")) {
    if (FILE* file = fopen(path, "a")) {
      fprintf(file, "%s %lu %lu %lu\n", argv[0], passed, failed, skipped);
      fclose(file);
    }
  }
  return result;
}
