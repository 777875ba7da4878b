// SPDX-License-Identifier: BSD-3-Clause
//
// A load on one export: load-bench SOCKET EXPORT SECONDS BYTES DEPTH
//
// Writes so many bytes at a time at random places, with so many requests in flight, for so
// long, and flushes. Prints how many requests were done, the median and the 99th percentile of
// their latency in microseconds, and KiB in a second.

#include <libnbd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace {

using Time = std::chrono::steady_clock::time_point;

struct Slot {
  int64_t cookie = 0;  // 0: free
  Time began;
};

Time now() { return std::chrono::steady_clock::now(); }

[[noreturn]] void give_up() {
  fprintf(stderr, "load-bench: %s\n", nbd_get_error());
  exit(EXIT_FAILURE);
}

int64_t check(int64_t result) {
  if (result == -1) give_up();
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    fprintf(stderr, "usage: load-bench SOCKET EXPORT SECONDS BYTES DEPTH\n");
    return 2;
  }
  const auto time = std::chrono::duration<double>(atof(argv[3]));
  const size_t bytes = strtoull(argv[4], nullptr, 10);
  std::vector<Slot> slots(strtoull(argv[5], nullptr, 10));
  const std::vector<char> data(bytes, 'x');
  nbd_handle* const nbd = nbd_create();
  if (nbd == nullptr) give_up();
  check(nbd_set_export_name(nbd, argv[2]));
  check(nbd_connect_unix(nbd, argv[1]));
  const auto places = static_cast<uint64_t>(check(nbd_get_size(nbd))) / bytes;
  std::minstd_rand random(1);
  std::vector<double> latencies;
  const Time start = now();
  for (size_t busy = 1; busy > 0;) {
    busy = 0;
    const bool more = now() - start < time;
    for (Slot& slot : slots) {
      if (slot.cookie != 0 && check(nbd_aio_command_completed(nbd, slot.cookie)) == 1) {
        latencies.push_back(
            std::chrono::duration<double, std::micro>(now() - slot.began).count());
        slot.cookie = 0;
      }
      if (slot.cookie == 0 && more)
        slot = {check(nbd_aio_pwrite(nbd, data.data(), bytes, random() % places * bytes,
                                     NBD_NULL_COMPLETION, 0)),
                now()};
      busy += slot.cookie != 0 ? 1 : 0;
    }
    if (busy > 0) check(nbd_poll(nbd, 100));
  }
  const double seconds = std::chrono::duration<double>(now() - start).count();
  check(nbd_flush(nbd, 0));
  check(nbd_shutdown(nbd, 0));
  nbd_close(nbd);
  std::sort(latencies.begin(), latencies.end());
  const auto at = [&](double part) {
    return latencies[static_cast<size_t>(part * static_cast<double>(latencies.size() - 1))];
  };
  printf("%zu %.0f %.0f %.0f\n", latencies.size(), at(0.5), at(0.99),
         static_cast<double>(latencies.size() * bytes) / 1024 / seconds);
  return 0;
}
