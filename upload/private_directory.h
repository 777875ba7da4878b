// SPDX-License-Identifier: BSD-3-Clause
//
// PrivateDirectory: where the sockets are, which only the user can enter.
//
// It is locked (flock(2)) for as long as nbdupload lives, and removed in the end. What a
// killed nbdupload has left is not locked any more: the next one that starts removes it.
// It never holds a secret.

#pragma once

#include <string>

#include "event_loop.h"
#include "file_descriptor.h"
#include "outcome.h"

namespace nbdupload {

class PrivateDirectory {
 public:
  // The loop wakes up whenever a file in the directory changes.
  explicit PrivateDirectory(EventLoop& loop) : loop_(loop) {}
  ~PrivateDirectory() { remove(); }
  PrivateDirectory(const PrivateDirectory&) = delete;
  PrivateDirectory& operator=(const PrivateDirectory&) = delete;

  [[nodiscard]] Outcome make();
  void remove();

  // The file of that name in the directory.
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }
  // As a dry run shows it, where there is no such directory later.
  [[nodiscard]] std::string shown_file(const std::string& name) const;

 private:
  [[nodiscard]] bool make_in(const std::string& where);

  EventLoop& loop_;
  std::string path_;
  FileDescriptor lock_, changes_;
};

}  // namespace nbdupload
