// SPDX-License-Identifier: BSD-3-Clause
//
// Who has the lock may write to the file, and nobody else does. A record is written by one
// write(2) of kFileSize bytes from the start of the file, filled up with blanks, so that a
// shorter record leaves nothing of a longer one behind, and kill -9 no half of it.
//
// An empty file is one that somebody made and was killed before the first record.
//
// The lock counts only while the name leads to the file that is locked: whoever removes or
// replaces the file takes the claim away from its holder, who notices it at the next renewal.

#include "claim/lock_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstring>

#include "base/format.h"

namespace upload::claim {

namespace {

// In bytes; within a page, and with room for the longest record and the end of its line.
constexpr size_t kFileSize = 2048;
static_assert(kFileSize > kLongestRecord);

// The whole file.
struct flock whole(short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

}  // namespace

LockFile::~LockFile() { close(); }

void LockFile::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Status LockFile::failed(const char* what) const {
  return {Kind::kInvalid, name_ + ": " + path_ + " " + what + ": " + strerror(errno)};
}

// With `make` the file is made if it is not there; without, there is no descriptor then.
Status LockFile::open(bool make) {
  if (fd_ >= 0 && is_at_name()) return {};
  close();
  const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (make ? O_CREAT : 0);
  fd_ = ::open(path_.c_str(), flags, 0600);
  if (fd_ < 0 && errno == ENOENT && !make) return {};
  if (fd_ < 0 && errno == ELOOP)
    return {Kind::kInvalid, name_ + ": " + path_ + " is a symbolic link, which is not followed"};
  if (fd_ < 0) return failed("can't be opened or made");
  Status status = check();
  if (!status.ok()) close();
  return status;
}

// What somebody else may have put there is not written to.
Status LockFile::check() const {
  struct stat about = {};
  if (fstat(fd_, &about) != 0) return failed("can't be read");
  const std::string file = name_ + ": " + path_;
  if (!S_ISREG(about.st_mode)) return {Kind::kInvalid, file + " is not a file"};
  if (about.st_nlink > 1)
    return {Kind::kInvalid,
            file + format(" has %" PRIu64 " names (hard links), and must have one",
                          static_cast<uint64_t>(about.st_nlink))};
  return {};
}

bool LockFile::is_at_name() const {
  struct stat mine = {};
  struct stat named = {};
  return fstat(fd_, &mine) == 0 && lstat(path_.c_str(), &named) == 0 &&
         mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

Result<std::string> LockFile::content() const {
  std::array<char, kFileSize + 1> buffer = {};
  const ssize_t n = pread(fd_, buffer.data(), buffer.size(), 0);
  if (n < 0) return failed("can't be read");
  if (static_cast<size_t>(n) > kFileSize)
    return Status(Kind::kInvalid,
                  name_ + ": " + path_ + " is damaged: it is longer than a claim's file");
  std::string text(buffer.data(), static_cast<size_t>(n));
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n')) text.pop_back();
  return text;
}

Result<Seen> LockFile::look(BootTime) {
  if (Status status = open(false); !status.ok()) return status;
  if (fd_ < 0) return Seen();
  struct flock lock = whole(F_WRLCK);
  if (fcntl(fd_, F_OFD_GETLK, &lock) != 0) return failed("can't be locked");
  Result<std::string> text = content();
  if (!text.ok()) return text.status();
  Seen seen;
  seen.held = lock.l_type != F_UNLCK;
  seen.version = text.value();
  if (text.value().empty()) return seen;
  Result<Record> record = from_json(text.value());
  // The holder may be writing just now.
  if (!record.ok() && !seen.held)
    return Status(Kind::kInvalid, name_ + ": " + path_ + " is damaged: it " +
                                      record.status().text() +
                                      "; remove it if nobody uploads to this disk");
  if (record.ok()) seen.record = record.value();
  return seen;
}

Result<std::optional<BootTime>> LockFile::take(const Seen& seen, const Record& record, BootTime) {
  if (Status status = open(true); !status.ok()) return status;
  struct flock lock = whole(F_WRLCK);
  if (fcntl(fd_, F_OFD_SETLK, &lock) != 0) {
    if (errno == EAGAIN || errno == EACCES) return std::optional<BootTime>();
    return failed("can't be locked");
  }
  Result<std::string> text = content();
  const bool as_seen = text.ok() && text.value() == seen.version && is_at_name();
  const Status status = as_seen ? put(record) : text.status();
  if (as_seen && status.ok()) return std::optional(BootTime::max());
  close();  // and with the descriptor the lock
  if (!status.ok()) return status;
  return std::optional<BootTime>();
}

Result<BootTime> LockFile::renew(BootTime) {
  if (fd_ >= 0 && is_at_name()) return BootTime::max();
  return Status(Kind::kClaimLost, path_ + " has been removed or replaced");
}

Status LockFile::put(const Record& record) const {
  std::string text = to_json(record);
  text.resize(kFileSize - 1, ' ');
  text += '\n';
  if (pwrite(fd_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
      fsync(fd_) != 0)
    return failed("can't be written");
  return {};
}

Status LockFile::write(const Record& record, BootTime until) {
  if (Result<BootTime> still = renew(until); !still.ok()) return still.status();
  return put(record);
}

Status LockFile::let_go(const Record& record, BootTime until) {
  Status status = write(record, until);
  close();
  return status;
}

}  // namespace upload::claim
