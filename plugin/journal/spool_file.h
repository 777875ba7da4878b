// SPDX-License-Identifier: BSD-3-Clause
//
// SpoolFile: the name of a volume's spool in its directory, and the lock that
// keeps a second nbdkit away from it.
//
// The name has a hash of the path and one of the host, so that the spools of
// one path are found by the name's beginning. The first releases made one hash
// of both; a file that they have left is found by computing it.
//
// The lock is a file of its own beside the spool, held by flock(2) until the
// object is destroyed or the process ends in any way; it is inherited through
// fork(2), and goes with the last of the processes that have it.
//
// The directory has to be safe, and each file the process's own (own_file.h), also those
// that were there before.
//
// Not thread safe.

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "journal/own_file.h"
#include "journal/store.h"

namespace upload::journal {

class SpoolFile final : public SpoolPlace {
 public:
  // Checks that `directory` is safe and files can be made there, and locks. The clock is for
  // the store, and must outlive it.
  [[nodiscard]] static Result<std::unique_ptr<SpoolFile>> lock(const std::string& directory,
                                                               const SpoolName& name,
                                                               const Clock& clock);
  // Removes the lock, if its name still leads to it.
  ~SpoolFile() override;
  SpoolFile(const SpoolFile&) = delete;
  SpoolFile& operator=(const SpoolFile&) = delete;

  [[nodiscard]] const std::string& path() const override { return path_; }
  [[nodiscard]] Result<std::unique_ptr<Store>> open(const std::string& url, uint64_t size,
                                                    bool verify) override;
  [[nodiscard]] bool exists() const override;
  void remove() override;
  [[nodiscard]] Result<std::vector<std::unique_ptr<SpoolPlace>>> others() override;
  Status take_over(SpoolPlace& other) override;

 private:
  SpoolFile(std::string directory, SpoolName name, const Clock& clock, std::string path,
            OwnFile lock)
      : directory_(std::move(directory)),
        name_(std::move(name)),
        clock_(clock),
        path_(std::move(path)),
        lock_(std::move(lock)) {}
  // Null: another process has it.
  [[nodiscard]] static Result<std::unique_ptr<SpoolFile>> lock_file(const std::string& directory,
                                                                    const SpoolName& name,
                                                                    const Clock& clock,
                                                                    const std::string& file);
  [[nodiscard]] static std::string lock_of(const std::string& path) { return path + ".lock"; }
  Status take_over_old_name();
  [[nodiscard]] bool is_other(const std::string& file) const;

  const std::string directory_;
  const SpoolName name_;
  const Clock& clock_;
  const std::string path_;
  const OwnFile lock_;
};

}  // namespace upload::journal
