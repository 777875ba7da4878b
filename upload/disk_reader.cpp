// SPDX-License-Identifier: BSD-3-Clause
//
// What is zero is asked for far ahead, and remembered.

#include "disk_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "file_descriptor.h"
#include "nbd_connection.h"

namespace nbdupload {

namespace {

constexpr const char* kContext = LIBNBD_CONTEXT_BASE_ALLOCATION;
// So far ahead a server is asked, in bytes.
constexpr uint64_t kLookAhead = uint64_t{1} << 30;

class FileReader : public DiskReader {
 public:
  explicit FileReader(const std::string& name)
      : file_(::open(name.c_str(), O_RDONLY | O_CLOEXEC)) {}
  [[nodiscard]] bool is_open() const { return file_.is_open(); }

  uint64_t size() const override {
    return static_cast<uint64_t>(std::max<off_t>(lseek(file_.get(), 0, SEEK_END), 0));
  }

  bool is_known_zero(uint64_t offset, size_t count) override {
    const off_t data = lseek(file_.get(), static_cast<off_t>(offset), SEEK_DATA);
    return data < 0 ? errno == ENXIO : static_cast<uint64_t>(data) >= offset + count;
  }

  bool read(char* buffer, size_t count, uint64_t offset) override {
    while (count > 0) {
      const ssize_t got = pread(file_.get(), buffer, count, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        fprintf(stderr, "%s\n", got < 0 ? strerror(errno) : "the file has become shorter");
        return false;
      }
      buffer += got;
      count -= static_cast<size_t>(got);
      offset += static_cast<uint64_t>(got);
    }
    return true;
  }

 private:
  const FileDescriptor file_;
};

class NbdReader : public DiskReader {
 public:
  NbdReader(NbdConnection nbd, uint64_t size) : nbd_(std::move(nbd)), size_(size) {}

  uint64_t size() const override { return size_; }

  bool is_known_zero(uint64_t offset, size_t count) override {
    if (nbd_can_meta_context(nbd_.get(), kContext) != 1) return false;
    if (offset < begin_ || offset + count > end_) look(offset);
    const auto overlaps = [&](const Range& range) {
      return range.begin < offset + count && offset < range.end;
    };
    return offset >= begin_ && offset + count <= end_ &&
           std::none_of(data_.begin(), data_.end(), overlaps);
  }

  bool read(char* buffer, size_t count, uint64_t offset) override {
    if (nbd_pread(nbd_.get(), buffer, count, offset, 0) == 0) return true;
    (void)nbd_failure();
    return false;
  }

 private:
  struct Range {
    uint64_t begin, end;
  };

  // Asks what is zero from there on.
  void look(uint64_t offset) {
    begin_ = end_ = offset;
    data_.clear();
    const nbd_extent_callback callback = {&NbdReader::take, this, nullptr};
    if (nbd_block_status(nbd_.get(), std::min(kLookAhead, size_ - offset), offset, callback, 0) !=
        0)
      end_ = begin_;
  }

  static int take(void* self, const char* context, uint64_t offset, uint32_t* entries,
                  size_t count, int*) {
    auto& reader = *static_cast<NbdReader*>(self);
    if (strcmp(context, kContext) != 0) return 0;
    for (size_t i = 0; i + 1 < count; i += 2) {
      if ((entries[i + 1] & LIBNBD_STATE_ZERO) == 0)
        reader.data_.push_back({offset, offset + entries[i]});
      offset += entries[i];
    }
    reader.end_ = offset;
    return 0;
  }

  const NbdConnection nbd_;
  const uint64_t size_;
  // What is known: the ranges of data between these offsets.
  uint64_t begin_ = 0, end_ = 0;
  std::vector<Range> data_;
};

}  // namespace

std::unique_ptr<DiskReader> DiskReader::open(const std::string& address, bool looks_for_zeroes) {
  if (address.starts_with("/")) {
    auto file = std::make_unique<FileReader>(address);
    if (file->is_open()) return file;
    fprintf(stderr, "%s\n", strerror(errno));
    return nullptr;
  }
  NbdConnection nbd = connect_to(address.c_str(), looks_for_zeroes ? kContext : nullptr);
  const int64_t size = nbd == nullptr ? -1 : nbd_get_size(nbd.get());
  if (size >= 0) return std::make_unique<NbdReader>(std::move(nbd), static_cast<uint64_t>(size));
  (void)nbd_failure();
  return nullptr;
}

}  // namespace nbdupload
