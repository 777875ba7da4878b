// SPDX-License-Identifier: BSD-3-Clause
//
// OwnFile: a file that no other account can have made or can change, as an open
// descriptor. And the directory in which such files are.
//
// A file is the process's own if it is a regular one, belongs to the effective user, has
// one name, and neither its group nor others may write to it. A directory is safe if it
// belongs to the effective user or to root, and neither its group nor others may write to
// it. With access control lists the group's bits are the mask of all entries, so that
// they cover these as well.
//
// In a safe directory nobody else can make, rename or remove a name. So it is enough to
// look once at each file: between that and its use by name nobody else can put another
// one in its place. What a file is is asked of the descriptor all the same, never of the
// name, and the descriptor is kept: it tells later whether the name still leads there.
//
// Closing a descriptor ends all POSIX locks that the process has on the file, and SQLite
// has some: an OwnFile of a database is opened before and closed after it is in use.
//
// Errors: Kind::kSpool. Not thread safe.

#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace upload::journal {

class OwnFile {
 public:
  OwnFile() = default;  // none
  // Takes the descriptor over; negative: none.
  explicit OwnFile(int fd) : fd_(fd) {}
  ~OwnFile() { close(); }
  OwnFile(OwnFile&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  OwnFile& operator=(OwnFile&& other) noexcept;
  OwnFile(const OwnFile&) = delete;
  OwnFile& operator=(const OwnFile&) = delete;

  // Opens a file that is there, for reading, and checks it; none if it is not there.
  // `what` stands before its path in texts, such as "the spool ".
  [[nodiscard]] static Result<OwnFile> open(const std::string& path, const char* what);
  // Is it the process's own? A file that has lost its name passes: see is_at().
  [[nodiscard]] Status check(const std::string& path, const char* what) const;

  [[nodiscard]] bool there() const { return fd_ >= 0; }
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] uint64_t size() const;  // in bytes
  // The name leads to this file, and to no link to it.
  [[nodiscard]] bool is_at(const std::string& path) const;
  // The same as an error that says what has become of the file.
  [[nodiscard]] Status check_is_at(const std::string& path, const char* what) const;

 private:
  void close();
  int fd_ = -1;
};

// Is the directory safe? The text names it as the parameter spool=.
[[nodiscard]] Status check_own_directory(const std::string& directory);

}  // namespace upload::journal
