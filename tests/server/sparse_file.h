// SPDX-License-Identifier: BSD-3-Clause
//
// Reading, writing, zeroing and comparing files that may have holes.

#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <system_error>

#include "byte_range.h"
#include "file_descriptor.h"

namespace upload::testserver {

/// A file of a fixed size, sparse if its file system allows it. Thread safe as far as
/// pread and pwrite are: ranges that overlap need a lock of the caller's.
class SparseFile {
 public:
  /// A new one, all holes, without a name; in memory if `directory` is empty. Throws
  /// std::system_error.
  static SparseFile anonymous(const std::string& directory, std::uint64_t size);

  explicit SparseFile(FileDescriptor fd) : fd_(std::move(fd)) {}

  [[nodiscard]] int fd() const { return fd_.get(); }

  /// Fails with EIO when the file ends within the range.
  [[nodiscard]] std::error_code read(std::uint64_t offset, std::span<char> out) const;
  [[nodiscard]] std::error_code write(std::uint64_t offset, std::span<const char> data);
  /// With `punch` as a hole, else allocated; written out where neither is possible.
  [[nodiscard]] std::error_code zero(const ByteRange& range, bool punch);

  /// Longer by a hole.
  [[nodiscard]] std::error_code grow(std::uint64_t size);

  /// Makes the range here what it is in `source`; holes stay holes.
  [[nodiscard]] std::error_code copy_from(const SparseFile& source, const ByteRange& range);

  /// The first piece of the range, from its beginning on, that is all data or all hole.
  struct Piece {
    ByteRange range;
    bool hole;
  };
  [[nodiscard]] Piece piece_at(const ByteRange& range) const;

 private:
  FileDescriptor fd_;
};

[[nodiscard]] bool is_zero(std::span<const char> data);

}  // namespace upload::testserver
