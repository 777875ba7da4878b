// SPDX-License-Identifier: BSD-3-Clause
//
// MemoryReserve: memory that is set aside for what must not fail. When operator new finds
// none, it gets what is set aside (std::set_new_handler), so what has begun can be brought
// to an end; and nothing new is begun until as much could be set aside again.

#pragma once

#include <cstddef>

namespace upload {

// There is one, of the process. All of it is thread safe.
class MemoryReserve {
 public:
  // Much more than the book-keeping of all requests that can be under way; less than the
  // data of one may need, which is asked for where it can be refused.
  static constexpr size_t kBytes = size_t{8} << 20;

  // Sets it aside, and has operator new use it. Without it the first failure is one.
  static void set_up() noexcept;
  // Whether it is there; sets it aside again if it was used.
  [[nodiscard]] static bool there() noexcept;
};

}  // namespace upload
