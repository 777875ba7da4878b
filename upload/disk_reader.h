// SPDX-License-Identifier: BSD-3-Clause
//
// DiskReader: an image, read by a process of nbdupload's that does nothing else: an open file by its
// name, /dev/fd/N, or what an NBD server offers.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace nbdupload {

class DiskReader {
 public:
  // Nothing: it can't be opened, for the reason that was printed. `looks_for_zeroes`: is_known_zero()
  // will be asked.
  static std::unique_ptr<DiskReader> open(const std::string& address, bool looks_for_zeroes);
  virtual ~DiskReader() = default;

  [[nodiscard]] virtual uint64_t size() const = 0;
  // Is that range known to be zero without being read? If in doubt it is not.
  [[nodiscard]] virtual bool is_known_zero(uint64_t offset, size_t count) = 0;
  // All of it; false: it can't be read, for the reason that was printed.
  [[nodiscard]] virtual bool read(char* buffer, size_t count, uint64_t offset) = 0;
};

}  // namespace nbdupload
