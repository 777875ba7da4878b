// SPDX-License-Identifier: BSD-3-Clause
//
// Fallback: where changes go that the server does not take. The spool is one; NoFallback
// stands for none.
//
// What belongs there is asked of the core, under its mutex: Core::belongs_into_spool().
// Without a fallback nothing ever does.

#pragma once

#include <cassert>

#include "base/clock.h"
#include "base/status.h"
#include "journal/replay_log.h"
#include "volume/change_queue.h"

namespace upload::volume {

// Thread safe. Each method but begin() may wait for a disk; none is called with a mutex held.
class Fallback {
 public:
  virtual ~Fallback() = default;
  // The server does not answer: from now on changes go here, and it is left alone until
  // `until`. False: they can't, since there is no such place or an error has latched.
  virtual bool begin(const Status& why, TimePoint until) = 0;
  // Keeps the batch that the change leads, and finishes it.
  virtual void append_and_finish(const Change& leader) = 0;
  // Copies content that is kept here. False: it has gone to the server meanwhile.
  virtual Result<bool> read(const journal::Slice& slice, std::byte* to) = 0;
  // What is kept here will be found by the next start.
  virtual Status check() = 0;
};

class NoFallback final : public Fallback {
 public:
  bool begin(const Status&, TimePoint) override { return false; }
  void append_and_finish(const Change&) override { assert(false); }
  Result<bool> read(const journal::Slice&, std::byte*) override {
    assert(false);
    return false;
  }
  Status check() override { return {}; }
};

}  // namespace upload::volume
