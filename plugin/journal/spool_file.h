// SPDX-License-Identifier: BSD-3-Clause
//
// SpoolFile: the name of a volume's spool in its directory, and the lock that
// keeps a second nbdkit away from it.
//
// The lock is a file of its own beside the spool, held by flock(2) until the
// object is destroyed or the process ends in any way; it is inherited through
// fork(2), and goes with the last of the processes that have it.
//
// Not thread safe.

#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "journal/store.h"

namespace upload::journal {

class SpoolFile final : public SpoolPlace {
 public:
  // Checks that files can be made in `directory`, and locks. `volume` is what
  // the file's name is made from, by SHA-256: it may be secret.
  [[nodiscard]] static Result<std::unique_ptr<SpoolFile>> lock(const std::string& directory,
                                                               const std::string& volume);
  // Removes the lock.
  ~SpoolFile() override;
  SpoolFile(const SpoolFile&) = delete;
  SpoolFile& operator=(const SpoolFile&) = delete;

  [[nodiscard]] const std::string& path() const override { return path_; }
  [[nodiscard]] Result<std::unique_ptr<Store>> open(const std::string& url, uint64_t size,
                                                    bool verify) override;
  [[nodiscard]] bool exists() const override;
  void remove() override;

 private:
  SpoolFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  [[nodiscard]] static std::string lock_of(const std::string& path) { return path + ".lock"; }

  const std::string path_;
  const int fd_;
};

}  // namespace upload::journal
