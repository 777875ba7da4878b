// SPDX-License-Identifier: BSD-3-Clause
//
// A file is opened with O_NOFOLLOW, since a link may lead to a file of the same user that
// is meant for something else, and with O_NONBLOCK, since opening a pipe would wait for
// its other end. Nothing here writes.
//
// What is not looked at: the directories above. Who may rename the directory itself can
// put another one in its place; is_at() tells that afterwards, and the new one's files
// would have to be the user's own as well.

#include "journal/own_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstring>

#include "base/format.h"

namespace upload::journal {

namespace {

constexpr mode_t kOthersWrite = S_IWGRP | S_IWOTH;

}  // namespace

OwnFile& OwnFile::operator=(OwnFile&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = other.fd_;
    other.fd_ = -1;
  }
  return *this;
}

void OwnFile::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<OwnFile> OwnFile::open(const std::string& path, const char* what) {
  OwnFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (file.there()) {
    if (Status status = file.check(path, what); !status.ok()) return status;
    return file;
  }
  if (errno == ENOENT) return file;
  if (errno == ELOOP)
    return Status(Kind::kSpool, what + path + " is a symbolic link, which is not followed");
  return Status(Kind::kSpool, what + path + " can't be opened: " + strerror(errno));
}

Status OwnFile::check(const std::string& path, const char* what) const {
  const std::string name = what + path;
  struct stat about = {};
  if (fstat(fd_, &about) != 0) return {Kind::kSpool, name + " can't be read: " + strerror(errno)};
  if (!S_ISREG(about.st_mode)) return {Kind::kSpool, name + " is not a file"};
  if (about.st_uid != geteuid())
    return {Kind::kSpool,
            format("%s belongs to uid %u, and nbdkit runs as uid %u: it is not used",
                   name.c_str(), about.st_uid, geteuid())};
  if (about.st_nlink > 1)
    return {Kind::kSpool,
            format("%s has %" PRIu64 " names (hard links), and must have one: it is "
                   "not used",
                   name.c_str(), static_cast<uint64_t>(about.st_nlink))};
  if ((about.st_mode & kOthersWrite) != 0)
    return {Kind::kSpool, format("%s has mode %04o, with which others may write to it: it is not "
                                 "used",
                                 name.c_str(), about.st_mode & 07777)};
  return {};
}

uint64_t OwnFile::size() const {
  struct stat about = {};
  return fstat(fd_, &about) == 0 ? static_cast<uint64_t>(about.st_size) : 0;
}

bool OwnFile::is_at(const std::string& path) const {
  struct stat mine = {};
  struct stat named = {};
  return fstat(fd_, &mine) == 0 && lstat(path.c_str(), &named) == 0 &&
         mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

Status OwnFile::check_is_at(const std::string& path, const char* what) const {
  if (is_at(path)) return {};
  struct stat named = {};
  const bool other = lstat(path.c_str(), &named) == 0;
  return {Kind::kSpool,
          what + path + " has been " + (other ? "replaced" : "removed") + " while in use"};
}

Status check_own_directory(const std::string& directory) {
  const OwnFile opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat about = {};
  if (!opened.there() || fstat(opened.fd(), &about) != 0)
    return {Kind::kSpool,
            "spool=" + directory + ": files can't be made there: " + strerror(errno)};
  if (about.st_uid != geteuid() && about.st_uid != 0)
    return {Kind::kSpool,
            format("spool=%s: belongs to uid %u, and nbdkit runs as uid %u: use a directory of "
                   "your own",
                   directory.c_str(), about.st_uid, geteuid())};
  // A sticky directory does not keep others from making names that are not there yet.
  if ((about.st_mode & kOthersWrite) != 0)
    return {Kind::kSpool,
            format("spool=%s: has mode %04o, with which others may make files there: say chmod "
                   "go-w %s, or use a directory of your own",
                   directory.c_str(), about.st_mode & 07777, directory.c_str())};
  return {};
}

}  // namespace upload::journal
