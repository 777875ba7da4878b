// SPDX-License-Identifier: BSD-3-Clause
//
// A plain file or block device as the storage of a ticket.
//
// Each connection opens the file for itself, as the real daemon does. What is written is
// in the file at once and stays there when the connection goes: nothing here models
// loss, that is DurableImage's. Flush is fdatasync. Unlike the real daemon it neither
// uses O_DIRECT nor tells a file without holes as one extent.
//
// Threads: sessions share nothing but the file. Overlapping changes are the client's
// business. Errors: those of the system calls, which the client gets as 500.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <stdexcept>

#include "backend.h"
#include "sparse_file.h"

namespace upload::testserver {

namespace {

class FileSession : public Session {
 public:
  FileSession(FileDescriptor fd, std::uint64_t size, bool sparse)
      : file_(std::move(fd)), size_(size), sparse_(sparse) {}

  std::error_code read(std::uint64_t offset, std::span<char> out) override {
    return file_.read(offset, out);
  }

  std::error_code write(std::uint64_t offset, std::span<const char> data) override {
    return file_.write(offset, data);
  }

  std::error_code zero(const ByteRange& range) override { return file_.zero(range, sparse_); }

  std::error_code flush() override {
    return ::fdatasync(file_.fd()) == 0 ? std::error_code()
                                        : std::error_code(errno, std::generic_category());
  }

  std::error_code extents(std::vector<Extent>& out) override {
    for (std::uint64_t at = 0; at < size_;) {
      const auto piece = file_.piece_at({at, size_ - at});
      append_extent(out, {piece.range, piece.hole, piece.hole});
      at = piece.range.end();
    }
    return {};
  }

 private:
  SparseFile file_;
  const std::uint64_t size_;
  const bool sparse_;
};

class FileBackend : public Backend {
 public:
  explicit FileBackend(const TicketOptions& ticket)
      : path_(ticket.location), writable_(ticket.writable), sparse_(ticket.sparse) {
    const int flags = writable_ ? O_RDWR | (ticket.size_bytes > 0 ? O_CREAT : 0) : O_RDONLY;
    const FileDescriptor fd(::open(path_.c_str(), flags | O_CLOEXEC, 0666));
    if (!fd.valid()) {
      fail("cannot be opened");
    }
    const off_t end = ::lseek(fd.get(), 0, SEEK_END);
    if (end < 0) {
      fail("has no size");
    }
    size_ = ticket.size_bytes > 0 ? ticket.size_bytes : static_cast<std::uint64_t>(end);
    if (size_ > static_cast<std::uint64_t>(end) &&
        ::ftruncate(fd.get(), static_cast<off_t>(size_)) != 0) {
      fail("cannot be made as long as the ticket says");
    }
  }

  std::unique_ptr<Session> open(ConnectionId, PeerGone, std::string& error) override {
    const int flags = writable_ ? O_RDWR : O_RDONLY;
    FileDescriptor fd(::open(path_.c_str(), flags | O_CLOEXEC));
    if (!fd.valid()) {
      error = path_ + ": " + std::generic_category().message(errno);
      return nullptr;
    }
    return std::make_unique<FileSession>(std::move(fd), size_, sparse_);
  }

  std::uint64_t size() const override { return size_; }
  std::error_code grow(std::uint64_t size) override {
    const std::lock_guard lock(mutex_);
    if (size <= size_) {
      return {};
    }
    if (::truncate(path_.c_str(), static_cast<off_t>(size)) != 0) {
      return {errno, std::generic_category()};
    }
    size_ = size;
    return {};
  }
  std::size_t chunk_size() const override { return 1024 * 1024; }
  unsigned max_writers() const override { return 1; }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw std::runtime_error(path_ + " " + what + ": " + std::generic_category().message(errno));
  }

  const std::string path_;
  const bool writable_;
  const bool sparse_;

  std::mutex mutex_;                     // held while the file grows
  std::atomic<std::uint64_t> size_ = 0;  // grows when the file has
};

}  // namespace

std::shared_ptr<Backend> make_file_backend(const TicketOptions& ticket) {
  return std::make_shared<FileBackend>(ticket);
}

}  // namespace upload::testserver
