// SPDX-License-Identifier: BSD-3-Clause
//
// Disk: the directory in which spools are. It outlives the plugin's lives.

#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "journal/store.h"

namespace upload::sim {

class Disk {
 public:
  virtual ~Disk() = default;

  // As SpoolFile::lock().
  [[nodiscard]] virtual Result<std::unique_ptr<journal::SpoolPlace>> take(
      const journal::SpoolName& name, const Clock& clock) = 0;
  // How many rows there are in all stores, none of which is in use.
  [[nodiscard]] virtual uint64_t rows() = 0;

  // An earlier life has left one.
  [[nodiscard]] virtual bool has_stores() = 0;
  // A store is open, or a place is locked.
  [[nodiscard]] virtual bool in_use() = 0;

  // There is no room, until there is again.
  virtual void set_full(bool full) = 0;
  // It does not answer until then.
  virtual void hang_until(TimePoint when) = 0;
  // Soon something fails, once.
  virtual void fail_soon() = 0;
  // All is well from now on.
  virtual void mend() = 0;

  // The process that used it is gone.
  virtual void killed() = 0;
  // After killed(), or when nothing is in use.
  virtual void lose_power() = 0;
  // What it said to be durable may not be: a store may have to be refused.
  [[nodiscard]] virtual bool has_lied() const = 0;
};

}  // namespace upload::sim
