// SPDX-License-Identifier: BSD-3-Clause
//
// Parameters: the KEY=VALUE for nbdkit-upload-plugin, with those that are secrets apart.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "event_loop.h"
#include "outcome.h"

namespace nbdupload {

struct Parameter {
  std::string key;
  std::string value;                  // not for a secret's
  std::optional<std::string> secret;  // it is handed over through a pipe
  std::string shown;                  // KEY=VALUE as it may be shown
};

class Parameters {
 public:
  // An argument that follows the URL. Failures name no secret.
  [[nodiscard]] Outcome add(EventLoop& loop, const std::string& argument);

  [[nodiscard]] const std::vector<Parameter>& list() const { return list_; }
  // Is an exclusive right to the disks asked for?
  [[nodiscard]] bool claims() const;
  // The spool's directory; empty: there is none.
  [[nodiscard]] std::string spool() const;

  // The memory for what the server has not made stable yet, so that a lost connection is no
  // failed upload: as much as is good for most. It must hold the largest request and fit
  // into the spool.
  [[nodiscard]] uint64_t default_replay() const;
  // As much as the user says, or else that.
  [[nodiscard]] uint64_t replay() const;
  // nbdcopy flushes at the end, so nothing has to be on the server before. Not without a log,
  // and not where the user says something else.
  [[nodiscard]] bool write_back() const;

 private:
  [[nodiscard]] Outcome add_pair(EventLoop& loop, const std::string& key,
                                 const std::string& value);
  [[nodiscard]] uint64_t size_of(const std::string& key) const;

  std::vector<Parameter> list_;
};

}  // namespace nbdupload
