// SPDX-License-Identifier: BSD-3-Clause
//
// LockFile: a ledger in a directory of this host, for the processes of this host: one file for
// each volume, HASH.claim, whose lock is the claim and whose content is the record.
//
// The lock belongs to the open file description (fcntl(2), "Open file description locks"): it
// survives nbdkit's fork, as the child has the description too; it is not lost when somebody
// else in the process closes another descriptor of the file; and the kernel frees it when the
// last process that has it ends, however it ends. No child that runs another program has it
// (O_CLOEXEC).
//
// The file stays, as the record is to be found by whoever comes next.

#pragma once

#include <string>

#include "claim/ledger.h"

namespace upload::claim {

class LockFile final : public Ledger {
 public:
  // `directory`: an absolute path; `hash` names the volume.
  LockFile(const std::string& directory, const std::string& hash)
      : name_("claim=file:" + directory), path_(directory + "/" + hash + ".claim") {}
  ~LockFile() override;
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  [[nodiscard]] const std::string& name() const override { return name_; }
  // Of a lock only the name can be lost.
  [[nodiscard]] Duration renew_every() const override { return std::chrono::seconds(5); }

  Result<Seen> look(BootTime until) override;
  Result<std::optional<BootTime>> take(const Seen& seen, const Record& record,
                                       BootTime until) override;
  Result<BootTime> renew(BootTime until) override;
  Status write(const Record& record, BootTime until) override;
  Status let_go(const Record& record, BootTime until) override;

 private:
  Status open(bool make);
  void close();
  [[nodiscard]] Status check() const;
  [[nodiscard]] bool is_at_name() const;
  [[nodiscard]] Result<std::string> content() const;
  [[nodiscard]] Status put(const Record& record) const;
  [[nodiscard]] Status failed(const char* what) const;

  const std::string name_;
  const std::string path_;
  int fd_ = -1;
};

}  // namespace upload::claim
