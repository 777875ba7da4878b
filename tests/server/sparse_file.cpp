// SPDX-License-Identifier: BSD-3-Clause
//
// Files with holes, by file descriptor.
//
// Everything goes through pread and pwrite, not through a mapping: reading a hole of a
// mapped memory file would allocate its pages, and an image of several GiB that is
// mostly holes has to stay cheap. SEEK_DATA and SEEK_HOLE let copying and comparing skip
// what is not there.
//
// Invariant: only grow() changes the size of the file.
//
// Threads: no state but the descriptor. Errors: std::error_code of errno; a file that
// ends too early is EIO. Alignment, O_DIRECT and short-lived caching are not dealt with.

#include "sparse_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

namespace upload::testserver {

namespace {

constexpr std::size_t kCopyBytes = 256 * 1024;

std::error_code last_error() { return {errno, std::generic_category()}; }

}  // namespace

bool is_zero(std::span<const char> data) {
  return data.empty() ||
         (data[0] == 0 && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

SparseFile SparseFile::anonymous(const std::string& directory, std::uint64_t size) {
  FileDescriptor fd(directory.empty()
                        ? ::memfd_create("upload-server-image", MFD_CLOEXEC)
                        : ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    throw std::system_error(last_error(), "cannot make a temporary file");
  }
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    throw std::system_error(last_error(), "cannot size a temporary file");
  }
  return SparseFile(std::move(fd));
}

std::error_code SparseFile::grow(std::uint64_t size) {
  return ::ftruncate(fd(), static_cast<off_t>(size)) == 0 ? std::error_code() : last_error();
}

std::error_code SparseFile::read(std::uint64_t offset, std::span<char> out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd(), out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return last_error();
    }
    if (n == 0) {
      return std::make_error_code(std::errc::io_error);
    }
    out = out.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

std::error_code SparseFile::write(std::uint64_t offset, std::span<const char> data) {
  while (!data.empty()) {
    const ssize_t n = ::pwrite(fd(), data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return last_error();
    }
    data = data.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

std::error_code SparseFile::zero(const ByteRange& range, bool punch) {
  const int mode = punch ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                         : FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  if (range.length == 0 || ::fallocate(fd(), mode, static_cast<off_t>(range.offset),
                                       static_cast<off_t>(range.length)) == 0) {
    return {};
  }
  if (errno != EOPNOTSUPP && errno != ENODEV && errno != ENOSYS) {
    return last_error();
  }
  static constexpr std::array<char, kCopyBytes> kZeroes{};
  for (std::uint64_t at = range.offset; at < range.end();) {
    const auto n = std::min<std::uint64_t>(kZeroes.size(), range.end() - at);
    if (const auto ec = write(at, std::span(kZeroes).first(static_cast<std::size_t>(n)))) {
      return ec;
    }
    at += n;
  }
  return {};
}

SparseFile::Piece SparseFile::piece_at(const ByteRange& range) const {
  const off_t data = ::lseek(fd(), static_cast<off_t>(range.offset), SEEK_DATA);
  if (data < 0) {
    // ENXIO: only a hole is left. Anything else: holes cannot be told.
    return {range, errno == ENXIO};
  }
  const auto first_data = static_cast<std::uint64_t>(data);
  if (first_data > range.offset) {
    const std::uint64_t end = std::min(first_data, range.end());
    return {{range.offset, end - range.offset}, true};
  }
  const off_t hole = ::lseek(fd(), data, SEEK_HOLE);
  const std::uint64_t end =
      hole < 0 ? range.end() : std::min(static_cast<std::uint64_t>(hole), range.end());
  return {{range.offset, end - range.offset}, false};
}

std::error_code SparseFile::copy_from(const SparseFile& source, const ByteRange& range) {
  std::vector<char> buffer;
  ByteRange left = range;
  while (left.length > 0) {
    Piece piece = source.piece_at(left);
    if (piece.hole) {
      if (const auto ec = zero(piece.range, true)) {
        return ec;
      }
    } else {
      piece.range.length = std::min<std::uint64_t>(piece.range.length, kCopyBytes);
      buffer.resize(static_cast<std::size_t>(piece.range.length));
      if (const auto ec = source.read(piece.range.offset, buffer)) {
        return ec;
      }
      if (const auto ec = write(piece.range.offset, buffer)) {
        return ec;
      }
    }
    left = {piece.range.end(), left.end() - piece.range.end()};
  }
  return {};
}

}  // namespace upload::testserver
