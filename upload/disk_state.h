// SPDX-License-Identifier: BSD-3-Clause
//
// DiskState: how far one image is on its way.
//
//   waiting -> uploading -> uploaded -> verifying -> done
//                       \-> failed            \-> failed

#pragma once

namespace nbdupload {

enum class DiskState { kWaiting, kUploading, kUploaded, kVerifying, kDone, kFailed };

// As a display shows it.
[[nodiscard]] inline const char* state_name(DiskState state) {
  switch (state) {
    case DiskState::kWaiting: return "waiting";
    case DiskState::kUploading: return "uploading";
    case DiskState::kUploaded: return "uploaded";
    case DiskState::kVerifying: return "verifying";
    case DiskState::kDone: return "done";
    case DiskState::kFailed: return "failed";
  }
  return "";
}

[[nodiscard]] inline bool is_running(DiskState state) {
  return state == DiskState::kUploading || state == DiskState::kVerifying;
}

}  // namespace nbdupload
