// SPDX-License-Identifier: BSD-3-Clause
//
// What the plugin tells of its requests, read back.

#include "statistics.h"

#include "catch.h"

using nbdupload::Statistics;

TEST_CASE("what the plugin has counted is added up", "[statistics]") {
  Statistics statistics;
  CHECK(statistics.empty());
  CHECK(
      statistics.take("write: 3 requests for 36 of clients (12.0 each), 9437184 "
                      "bytes, 1 failed, latency 16.578 ms mean, 29.175 ms at most"));
  CHECK(
      statistics.take("zero: 2 requests for 2 of clients (1.0 each), 4096 bytes, "
                      "0 failed, latency 1.000 ms mean, 1.000 ms at most"));
  CHECK(
      statistics.take("replay: 4 requests for 4 of clients (1.0 each), 8192 bytes, 0 "
                      "failed, latency 1.000 ms mean, 1.000 ms at most"));
  CHECK(statistics.data() == 9437184);
  CHECK(statistics.zeroes() == 4096);
  CHECK(statistics.requests() == 9);
  CHECK(statistics.retries() == 5);
  CHECK(statistics.lines().size() == 3);
  CHECK(statistics.lines()[0].starts_with("write: 3 requests"));
  CHECK(statistics.summary() == "9.0 MiB of data and 4.0 KiB of zeroes in 9 requests, 5 retries");
}

TEST_CASE("what a server says is not taken for what the plugin has counted", "[statistics]") {
  Statistics statistics;
  for (const char* line :
       {"warning: write: 3 requests for 3 of clients (1.0 each), 9 bytes, 1 "
        "failed",
        "error: write: 3 requests for 3 of clients (1.0 each), 9 bytes, 1 "
        "failed",
        "https://host: write: 3 requests for 3 of clients (1.0 each), 9 bytes, 1 "
        "failed",
        "write: 3 requests", "config key=x, value=y", ""})
    CHECK_FALSE(statistics.take(line));
  CHECK(statistics.empty());
}
