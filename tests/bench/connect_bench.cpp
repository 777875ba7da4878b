// SPDX-License-Identifier: BSD-3-Clause
//
// How long an NBD client waits: connect-bench SOCKET CONNECTS WRITES
//
// Connects to the unix socket so often, one client after the other, reads 512 bytes and goes;
// then writes 4096 bytes so often over one connection. Prints three medians, in microseconds:
// of connecting (until the handshake is over), of the first read, of a write.

#include <libnbd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

namespace {

using Nbd = std::unique_ptr<nbd_handle, decltype(&nbd_close)>;

void check(int result) {
  if (result != -1) return;
  fprintf(stderr, "connect-bench: %s\n", nbd_get_error());
  exit(EXIT_FAILURE);
}

double microseconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
      .count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const int connects = argc == 4 ? atoi(argv[2]) : 0;
  const int writes = argc == 4 ? atoi(argv[3]) : 0;
  if (connects < 1 || writes < 1) {
    fprintf(stderr, "usage: connect-bench SOCKET CONNECTS WRITES\n");
    return 2;
  }
  std::vector<double> connecting;
  std::vector<double> reading;
  std::vector<double> writing;
  std::array<char, 4096> data = {};
  for (int i = 0; i < connects; ++i) {
    const Nbd nbd(nbd_create(), nbd_close);
    connecting.push_back(microseconds([&] { check(nbd_connect_unix(nbd.get(), argv[1])); }));
    reading.push_back(microseconds([&] { check(nbd_pread(nbd.get(), data.data(), 512, 0, 0)); }));
    check(nbd_shutdown(nbd.get(), 0));
  }
  const Nbd nbd(nbd_create(), nbd_close);
  check(nbd_connect_unix(nbd.get(), argv[1]));
  for (int i = 0; i < writes; ++i)
    writing.push_back(microseconds([&] {
      check(nbd_pwrite(nbd.get(), data.data(), data.size(), uint64_t{4096} * (i % 256), 0));
    }));
  check(nbd_flush(nbd.get(), 0));
  check(nbd_shutdown(nbd.get(), 0));
  printf("%.0f %.0f %.0f\n", median(connecting), median(reading), median(writing));
  return 0;
}
