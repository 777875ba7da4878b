// SPDX-License-Identifier: BSD-3-Clause
//
// Disk: one image on its way to its target.

#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "checksum.h"
#include "copy.h"
#include "disk_state.h"
#include "nbdkit.h"
#include "progress.h"
#include "source.h"
#include "target.h"

namespace nbdupload {

struct Disk {
  Disk(Source image_source, Target its_target)
      : source(std::move(image_source)), target(std::move(its_target)) {}

  [[nodiscard]] const std::string& name() const { return source.image().name(); }

  Source source;
  Target target;
  DiskState state = DiskState::kWaiting;
  Progress progress;             // of the upload, or of the verification
  std::chrono::seconds took{0};  // the upload
  // Everything was written and flushed, and nbdkit has ended well after that.
  bool complete = false;
  std::string why;               // it has failed
  std::optional<Nbdkit> reader;  // serves its target while it is verified
  std::optional<Copy> copy;
  std::optional<Checksum> checksum;  // in the place of a copy, if it is verified by that

  // Once what runs for it has been started: it has ended.
  [[nodiscard]] bool has_ended() const { return checksum ? checksum->ended() : copy->ended(); }
};

}  // namespace nbdupload
