// SPDX-License-Identifier: BSD-3-Clause
//
// Reads through libnbd, and waits for each reply: whoever has started it sees to the time.

#include "nbd_look.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "content.h"
#include "nbd_connection.h"

namespace nbdupload {

namespace {

constexpr char kEndFlag[] = "--look-for-data", kFirstFlag[] = "--look-at-beginning";
constexpr uint64_t kRequest = uint64_t{1} << 20;

int look_at_beginning(const char* address) {
  const NbdConnection nbd = connect_to(address);
  const int64_t size = nbd == nullptr ? -1 : nbd_get_size(nbd.get());
  if (size < 0) return nbd_failure();
  char buffer[kFirstBytes];
  const size_t count = std::min(sizeof buffer, static_cast<size_t>(size));
  if (count > 0 && nbd_pread(nbd.get(), buffer, count, 0, 0) != 0) return nbd_failure();
  return fwrite(buffer, 1, count, stdout) == count && fflush(stdout) == 0 ? 0 : 1;
}

int look_for_data(const char* address, uint64_t offset) {
  const NbdConnection nbd = connect_to(address);
  if (nbd == nullptr) return nbd_failure();
  const int64_t size = nbd_get_size(nbd.get());
  if (size < 0) return nbd_failure();
  std::vector<char> buffer(kRequest);
  while (offset < static_cast<uint64_t>(size)) {
    const auto count =
        static_cast<size_t>(std::min(kRequest, static_cast<uint64_t>(size) - offset));
    if (nbd_pread(nbd.get(), buffer.data(), count, offset, 0) != 0) return nbd_failure();
    if (std::any_of(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(count),
                    [](char c) { return c != 0; })) {
      puts("data");
      return 0;
    }
    offset += count;
  }
  puts("zero");
  return 0;
}

}  // namespace

std::vector<std::string> first_look_words(const std::string& address) {
  return {"/proc/self/exe", kFirstFlag, address};
}

std::vector<std::string> zero_look_words(const std::string& address, uint64_t offset) {
  return {"/proc/self/exe", kEndFlag, address, std::to_string(offset)};
}

void run_nbd_look(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], kFirstFlag) == 0) exit(look_at_beginning(argv[2]));
  if (argc == 4 && strcmp(argv[1], kEndFlag) == 0)
    exit(look_for_data(argv[2], strtoull(argv[3], nullptr, 10)));
}

}  // namespace nbdupload
