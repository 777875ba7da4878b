// SPDX-License-Identifier: BSD-3-Clause
//
// Snapshot: a value that many read and somebody replaces now and then. Readers share what
// they have read for as long as they like.
//
// What std::atomic<std::shared_ptr> is for; but libstdc++ 12 lets go of that one's lock after a
// load() without a release, which is a data race: ThreadSanitizer has found it. A lock that
// is held for the copy of a pointer does the same.

#pragma once

#include <memory>
#include <mutex>
#include <utility>

namespace upload {

// Thread safe. Nothing else is called while the lock is held.
template <typename T>
class Snapshot {
 public:
  using Pointer = std::shared_ptr<const T>;

  explicit Snapshot(Pointer value = nullptr) : value_(std::move(value)) {}

  // May be null, if that was stored.
  [[nodiscard]] Pointer load() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return value_;
  }
  void store(Pointer value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    value_.swap(value);  // the old one may end after the lock
  }
  // If it is still `expected`. False: it is not, and nothing was stored.
  [[nodiscard]] bool replace(const Pointer& expected, Pointer value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (value_ != expected) return false;
    value_.swap(value);
    return true;
  }

 private:
  mutable std::mutex mutex_;
  Pointer value_;
};

}  // namespace upload
