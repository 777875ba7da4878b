// SPDX-License-Identifier: BSD-3-Clause
//
// Locking a file that is removed at the end: whoever opened it before and
// locks it after its removal would share the lock with nobody. So the lock
// counts only if the name still leads to the file that was locked.

#include "journal/spool_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "journal/sqlite_store.h"

namespace upload::journal {

namespace {

// 32 hexadecimal digits.
std::string name_of(const std::string& volume) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  if (EVP_Digest(volume.data(), volume.size(), digest, nullptr, EVP_sha256(), nullptr) != 1)
    throw std::bad_alloc();
  std::string name;
  for (int i = 0; i < 16; ++i) {
    char digits[3];
    snprintf(digits, sizeof digits, "%02x", digest[i]);
    name += digits;
  }
  return name;
}

bool same_file(int fd, const std::string& path) {
  struct stat mine = {};
  struct stat named = {};
  return fstat(fd, &mine) == 0 && stat(path.c_str(), &named) == 0 &&
         mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

}  // namespace

Result<std::unique_ptr<SpoolFile>> SpoolFile::lock(const std::string& directory,
                                                   const std::string& volume) {
  const std::string path = directory + "/" + name_of(volume) + ".spool";
  const std::string lock = lock_of(path);
  for (;;) {
    const int fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
      return Status(Kind::kSpool,
                    "spool=" + directory + ": files can't be made there: " + strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      close(fd);
      if (error == EWOULDBLOCK)
        return Status(Kind::kSpool, "spool=" + directory + ": another nbdkit uses " + path +
                                        ", the spool of this disk");
      return Status(Kind::kSpool,
                    "spool=" + directory + ": locks don't work there: " + strerror(error));
    }
    if (same_file(fd, lock)) return std::unique_ptr<SpoolFile>(new SpoolFile(path, fd));
    close(fd);  // its owner has just removed it
  }
}

SpoolFile::~SpoolFile() {
  unlink(lock_of(path_).c_str());
  close(fd_);
}

Result<std::unique_ptr<Store>> SpoolFile::open(const std::string& url, uint64_t size,
                                               bool verify) {
  auto store = SqliteStore::open({path_, url, size}, verify);
  if (!store.ok()) return store.status();
  return std::unique_ptr<Store>(std::move(store.value()));
}

bool SpoolFile::exists() const { return access(path_.c_str(), F_OK) == 0; }

void SpoolFile::remove() {
  unlink(path_.c_str());
  unlink((path_ + "-journal").c_str());
}

}  // namespace upload::journal
