// SPDX-License-Identifier: BSD-3-Clause
//
// One request at a time: with write-back, which is the default, the plugin acknowledges it when it
// is in memory. What is zero in whole pieces is written as zeroes.
//
// Nothing is flushed before the stream has turned out to be as long as it should be.

#include "stream.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "block_hash.h"
#include "console.h"
#include "nbd_connection.h"

namespace nbdupload {

namespace {

constexpr char kFlag[] = "--copy-stream";
constexpr int kArguments = 9;
// In bytes.
constexpr size_t kRequest = size_t{4} << 20;
constexpr size_t kPiece = size_t{64} << 10;

class Stream {
 public:
  Stream(int first, int rest) : first_(first), rest_(rest) {}

  // Reads until the buffer is full or the stream has ended; how much it was, or negative.
  ssize_t fill(char* buffer, size_t size) {
    size_t filled = 0;
    while (filled < size) {
      const ssize_t got = read(first_ >= 0 ? first_ : rest_, buffer + filled, size - filled);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return -1;
      if (got > 0)
        filled += static_cast<size_t>(got);
      else if (first_ >= 0)
        first_ = -1;
      else
        break;
    }
    return static_cast<ssize_t>(filled);
  }

 private:
  int first_;
  const int rest_;
};

bool is_zero(std::string_view piece) {
  return piece[0] == 0 && memcmp(piece.data(), piece.data() + 1, piece.size() - 1) == 0;
}

int write_run(nbd_handle* nbd, const StreamCopy& copy, std::string_view run, uint64_t offset) {
  if (!is_zero(run.substr(0, std::min(run.size(), kPiece))))
    return nbd_pwrite(nbd, run.data(), run.size(), offset, 0);
  if (copy.target_is_zero) return 0;
  return nbd_can_zero(nbd) == 1 ? nbd_zero(nbd, run.size(), offset, 0)
                                : nbd_pwrite(nbd, run.data(), run.size(), offset, 0);
}

// In runs of pieces that are zero, and of those that are not.
int write_data(nbd_handle* nbd, const StreamCopy& copy, std::string_view data, uint64_t offset) {
  while (!data.empty()) {
    const bool zero = is_zero(data.substr(0, kPiece));
    size_t end = std::min(data.size(), kPiece);
    while (end < data.size() && is_zero(data.substr(end, kPiece)) == zero)
      end = std::min(data.size(), end + kPiece);
    if (write_run(nbd, copy, data.substr(0, end), offset) != 0) return -1;
    data.remove_prefix(end);
    offset += end;
  }
  return 0;
}

void tell(const StreamCopy& copy, uint64_t before, uint64_t after) {
  const auto percent = [&](uint64_t done) {
    return static_cast<int>(static_cast<double>(done) / static_cast<double>(copy.size) * 100);
  };
  if (copy.progress >= 0 && percent(after) != percent(before))
    write_all(copy.progress, std::to_string(percent(after)) + "/100\n");
}

int wrong_length(const std::string& how) {
  fprintf(stderr, "%s\n", how.c_str());
  return kWrongLength;
}

int unreadable() {
  fprintf(stderr, "it can't be read: %s\n", strerror(errno));
  return 1;
}

int copy_stream(const StreamCopy& copy) {
  const NbdConnection nbd = connect_to(copy.address.c_str());
  if (nbd == nullptr) return nbd_failure();
  const std::string size = std::to_string(copy.size) + " bytes";
  Stream stream(copy.first, copy.rest);
  BlockHash hash;
  std::vector<char> buffer(kRequest);
  for (uint64_t offset = 0; offset < copy.size;) {
    const ssize_t got =
        stream.fill(buffer.data(), std::min<uint64_t>(copy.size - offset, kRequest));
    if (got < 0) return unreadable();
    if (got == 0) return wrong_length("ended after " + std::to_string(offset) + " of " + size);
    const auto count = static_cast<size_t>(got);
    if (write_data(nbd.get(), copy, {buffer.data(), count}, offset) != 0) return nbd_failure();
    if (copy.checksum) hash.add({buffer.data(), count});
    tell(copy, offset, offset + count);
    offset += count;
  }
  const ssize_t more = stream.fill(buffer.data(), 1);
  if (more < 0) return unreadable();
  if (more > 0) return wrong_length("has more than " + size);
  if (nbd_flush(nbd.get(), 0) != 0 || nbd_shutdown(nbd.get(), 0) != 0) return nbd_failure();
  if (copy.checksum) puts(hash.finish().c_str());
  return fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace

std::vector<std::string> stream_words(const StreamCopy& copy) {
  return {"/proc/self/exe",
          kFlag,
          copy.address,
          std::to_string(copy.size),
          std::to_string(copy.first),
          std::to_string(copy.rest),
          std::to_string(copy.progress),
          copy.target_is_zero ? "zero" : "any",
          copy.checksum ? "checksum" : "plain"};
}

void run_stream(int argc, char** argv) {
  if (argc != kArguments || strcmp(argv[1], kFlag) != 0) return;
  StreamCopy copy;
  copy.address = argv[2];
  copy.size = strtoull(argv[3], nullptr, 10);
  copy.first = atoi(argv[4]);
  copy.rest = atoi(argv[5]);
  copy.progress = atoi(argv[6]);
  copy.target_is_zero = strcmp(argv[7], "zero") == 0;
  copy.checksum = strcmp(argv[8], "checksum") == 0;
  exit(copy_stream(copy));
}

}  // namespace nbdupload
