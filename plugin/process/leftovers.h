// SPDX-License-Identifier: BSD-3-Clause
//
// Leftovers: what earlier runs have left in the spool's directory for the path
// of the upload URL, and what becomes of it.
//
// What is of the same URL is sent, unless spool-leftovers=discard. What is of
// the same path and size but of another host may be of the same disk, and then
// older than what is on it: a run in between may have used another directory or
// none. So it is the user's to decide.
//
// Used by one thread, before nbdkit forks: nothing is open between calls.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "journal/store.h"
#include "process/config.h"
#include "process/environment.h"

namespace upload {

// "2026-11-21 15:57:35 UTC" of seconds since 1970.
[[nodiscard]] std::string time_text(int64_t when);

class Leftovers {
 public:
  // Both must outlive it.
  Leftovers(const Config& config, const Environment& environment)
      : config_(config), environment_(environment) {}

  // Locks the spool's place, and reads what is left there and in the others.
  Status find();
  // Decides what becomes of it, for a disk of that size.
  Status decide(uint64_t size);

  // Something is left that is to be sent (before decide(): perhaps); in that file.
  [[nodiscard]] bool to_send() const;
  [[nodiscard]] const std::string& path() const;

  // An earlier process did not remove its spool, so requests of it may still be
  // at work in the server.
  [[nodiscard]] bool unclean() const { return unclean_; }

  // This URL's; null without spool=. The caller's from then on.
  [[nodiscard]] std::unique_ptr<journal::SpoolPlace> take_place() {
    return std::move(own_.place);
  }

 private:
  struct Spool {
    std::unique_ptr<journal::SpoolPlace> place;
    journal::StoreAbout about = {};
    bool was_there = false;
    size_t changes = 0;  // 0: nothing is left
    uint64_t bytes = 0;
  };
  Status look_into(Spool& spool);
  [[nodiscard]] static bool has_changes(const std::vector<Spool>& spools);
  void discard(const Spool& spool);
  Status send_others();
  Status settle_empty(uint64_t size);
  [[nodiscard]] Status undecided() const;
  [[nodiscard]] static std::string describe(const Spool& spool);

  const Config& config_;
  const Environment& environment_;
  Spool own_;
  std::vector<Spool> others_;
  bool unclean_ = false;
};

}  // namespace upload
