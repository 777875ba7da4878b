// SPDX-License-Identifier: BSD-3-Clause
//
// DiskLease: a lease that the server itself keeps on a disk, for claim=lease. Changes that do not
// show the lease's id are refused by the server while there is one, so an uploader whose lease has
// ended can do no harm.
//
// Beside the lease the server keeps a text of ours, which says who had it. It builds requests and
// reads replies; no I/O, no state but the id. Constant, so any thread may use it.

#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "http/message.h"

namespace upload::target {

class DiskLease {
 public:
  // What there was to be seen at one moment.
  struct Seen {
    bool held = false;                // by anybody
    std::string text;                 // empty: there is none
    std::string version;              // of the disk and the text
    std::vector<std::string> others;  // what else is kept in the same place: header fields
  };

  virtual ~DiskLease() = default;

  // Whole seconds.
  [[nodiscard]] virtual Duration shortest() const = 0;
  [[nodiscard]] virtual Duration longest() const = 0;

  [[nodiscard]] virtual http::Request look() const = 0;
  [[nodiscard]] virtual Result<Seen> read_look(const http::Reply&) const = 0;

  // For that time; if all is as it was seen. May be repeated.
  [[nodiscard]] virtual http::Request acquire(const Seen& seen, Duration time) const = 0;
  // False: another has the lease, or something has changed.
  [[nodiscard]] virtual Result<bool> read_acquire(const http::Reply&) const = 0;

  // For the same time from now on.
  [[nodiscard]] virtual http::Request renew() const = 0;
  // Of renew(), write() and release(). kClaimLost: the lease is not ours.
  [[nodiscard]] virtual Status check(const http::Reply&) const = 0;

  // In the place of the text that was seen.
  [[nodiscard]] virtual http::Request write(const Seen& seen, const std::string& text) const = 0;
  [[nodiscard]] virtual http::Request release() const = 0;
};

}  // namespace upload::target
