// SPDX-License-Identifier: BSD-3-Clause
//
// Statistics: what the plugin has sent to a target, as it tells at its end (-D upload.stats=1). Pure.
//
// They are words, like all that a program says: nothing is decided by them.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nbdupload {

class Statistics {
 public:
  // Takes a line of the plugin's; false: it is not one of these.
  bool take(std::string_view line);

  [[nodiscard]] bool empty() const { return lines_.empty(); }
  // As the plugin has told them, one of each operation.
  [[nodiscard]] const std::vector<std::string>& lines() const { return lines_; }

  // Sent, in bytes; what was sent again is not counted twice.
  [[nodiscard]] uint64_t data() const { return data_; }
  [[nodiscard]] uint64_t zeroes() const { return zeroes_; }
  // Requests of all kinds that have succeeded.
  [[nodiscard]] uint64_t requests() const { return requests_; }
  // Requests that have failed, and those which brought changes again after a lost connection.
  [[nodiscard]] uint64_t retries() const { return retries_; }

  // "9.0 MiB of data and 55 MiB of zeroes in 8 requests, 2 retries"
  [[nodiscard]] std::string summary() const;

 private:
  std::vector<std::string> lines_;
  uint64_t data_ = 0, zeroes_ = 0, requests_ = 0, retries_ = 0;
};

}  // namespace nbdupload
