// SPDX-License-Identifier: BSD-3-Clause
//
// Outcome and Or: how every part of nbdupload reports failure.
//
// An Outcome is success, or how nbdupload is to end and the one line that says why. An Or
// is a value or such a failure. Neither may be ignored. Exceptions are for lack of memory
// only. Values.

#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>

namespace nbdupload {

enum class Ending {
  kGood,
  kFailed,
  kUsage,    // the command line is wrong
  kStopped,  // by the signal that the event loop has seen
};

class [[nodiscard]] Outcome {
 public:
  Outcome() = default;

  // `text` is one line without "nbdupload: " and without a full stop.
  static Outcome failed(std::string text) { return {Ending::kFailed, std::move(text)}; }
  static Outcome usage(std::string text) { return {Ending::kUsage, std::move(text)}; }
  static Outcome stopped() { return {Ending::kStopped, ""}; }

  [[nodiscard]] bool ok() const { return ending_ == Ending::kGood; }
  [[nodiscard]] Ending ending() const { return ending_; }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  Outcome(Ending ending, std::string text) : ending_(ending), text_(std::move(text)) {}

  Ending ending_ = Ending::kGood;
  std::string text_;
};

template <typename T>
class [[nodiscard]] Or {
 public:
  Or(T value) : value_(std::move(value)) {}                                       // NOLINT
  Or(Outcome failure) : failure_(std::move(failure)) { assert(!failure_.ok()); }  // NOLINT

  [[nodiscard]] bool ok() const { return value_.has_value(); }
  // Only if ok().
  [[nodiscard]] T& value() { return *value_; }
  [[nodiscard]] const Outcome& failure() const { return failure_; }

 private:
  std::optional<T> value_;
  Outcome failure_;
};

}  // namespace nbdupload
