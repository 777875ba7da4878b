// SPDX-License-Identifier: BSD-3-Clause
//
// What is counted of requests, and how it is printed.

#include "base/stats.h"

#include <string>
#include <vector>

#include "catch.h"

using namespace upload;
using namespace std::chrono_literals;

TEST_CASE("a request is counted in the bucket whose bound it does not exceed", "[stats]") {
  Stats stats;
  stats.add(Stats::Op::kWrite, 10, 2, 500us);
  stats.add(Stats::Op::kWrite, 20, 3, 501us);
  stats.add(Stats::Op::kWrite, 30, 4, 61s);
  stats.add_failure(Stats::Op::kWrite, Kind::kLost);
  const Stats::Counts counts = stats.counts()[0];
  CHECK(counts.latencies.front() == 1);
  CHECK(counts.latencies[1] == 1);
  CHECK(counts.latencies.back() == 1);
  CHECK(counts.succeeded() == 3);
  CHECK(counts.failed() == 1);
  CHECK(counts.bytes == 60);
  CHECK(counts.changes == 9);
  CHECK(counts.worst_us == 61'000'000);
}

TEST_CASE("the lines name what has happened only", "[stats]") {
  Stats stats;
  stats.add(Stats::Op::kWrite, 100, 1, 1ms);
  stats.add(Stats::Op::kWrite, 300, 3, 3ms);
  stats.add_failure(Stats::Op::kFlush, Kind::kGateway);
  CHECK(Stats::lines(stats.counts()) ==
        std::vector<std::string>{
            "write: 2 requests for 4 of clients (2.0 each), 400 bytes, 0 failed, "
            "latency 2.000 ms mean, 3.000 ms at most",
            "flush: 0 requests for 0 of clients (0.0 each), 0 bytes, 1 failed, "
            "latency 0.000 ms mean, 0.000 ms at most"});
}
