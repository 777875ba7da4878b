// SPDX-License-Identifier: BSD-3-Clause
//
// Two may meet at one directory: who has just made it, and who looks for leftovers. The
// lock decides. The cleaner removes only what it has locked; the maker, once it has the
// lock, asks whether the directory is still there, and makes another one if it is not.

#include "private_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <vector>

namespace nbdupload {

namespace {

constexpr char kPrefix[] = "nbdupload-";
// What mkdtemp(3) puts in its place.
constexpr char kTemplate[] = "XXXXXX";
// A socket's name has 107 bytes, and the rest of it takes up to 36.
constexpr size_t kLongest = 70;

// A socket's name goes into a URI as it is, so it has only what needs no escape there.
std::string place() {
  const char* wanted = getenv("TMPDIR");
  const std::string where = wanted != nullptr ? wanted : "";
  constexpr char kPlain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-";
  const bool good = where.starts_with("/") && where.size() <= kLongest &&
                    where.find_first_not_of(kPlain) == std::string::npos;
  return good ? where : "/tmp";
}

std::vector<std::string> names_in(int directory) {
  std::vector<std::string> names;
  const int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return names;
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(copy), closedir);
  if (stream == nullptr) return names;
  while (const dirent* entry = readdir(stream.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  return names;
}

// There are only files in it.
void remove_files(int directory) {
  for (const std::string& name : names_in(directory)) unlinkat(directory, name.c_str(), 0);
}

FileDescriptor open_directory(int parent, const char* name) {
  return FileDescriptor(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

// Somebody else's directory is let alone, and so is one that is in use.
void remove_leftover(int parent, const std::string& name) {
  const FileDescriptor directory = open_directory(parent, name.c_str());
  struct stat found {};
  if (!directory.is_open() || fstat(directory.get(), &found) != 0 || found.st_uid != geteuid() ||
      flock(directory.get(), LOCK_EX | LOCK_NB) != 0)
    return;
  remove_files(directory.get());
  unlinkat(parent, name.c_str(), AT_REMOVEDIR);
}

void remove_leftovers(const std::string& where) {
  const FileDescriptor parent(open(where.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent.is_open()) return;
  const size_t length = sizeof kPrefix + sizeof kTemplate - 2;
  for (const std::string& name : names_in(parent.get()))
    if (name.starts_with(kPrefix) && name.size() == length) remove_leftover(parent.get(), name);
}

}  // namespace

bool PrivateDirectory::make_in(const std::string& where) {
  path_ = where + "/" + kPrefix + kTemplate;
  if (mkdtemp(path_.data()) == nullptr) {
    path_.clear();
    return false;
  }
  lock_ = open_directory(AT_FDCWD, path_.c_str());
  struct stat found {};
  return lock_.is_open() && flock(lock_.get(), LOCK_EX) == 0 && fstat(lock_.get(), &found) == 0 &&
         found.st_nlink != 0;
}

Outcome PrivateDirectory::make() {
  const std::string where = place();
  umask(077);
  remove_leftovers(where);
  bool made = false;
  for (int tries = 0; !made && tries < 10; ++tries) made = make_in(where);
  if (!made) return Outcome::failed("no directory could be made in '" + where + "'");
  changes_ = FileDescriptor(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!changes_.is_open() ||
      inotify_add_watch(changes_.get(), path_.c_str(), IN_MODIFY | IN_CLOSE_WRITE) < 0)
    return Outcome::failed("'" + path_ + "' can't be watched");
  loop_.watch(changes_.get(), [this] {
    std::array<char, 4096> events;
    while (read(changes_.get(), events.data(), events.size()) > 0) {
    }
  });
  return {};
}

void PrivateDirectory::remove() {
  if (changes_.is_open()) loop_.unwatch(changes_.get());
  changes_.reset();
  if (path_.empty()) return;
  if (lock_.is_open()) remove_files(lock_.get());
  rmdir(path_.c_str());
  lock_.reset();
  path_.clear();
}

std::string PrivateDirectory::shown_file(const std::string& name) const {
  return path_.substr(0, path_.rfind('-') + 1) + kTemplate + "/" + name;
}

}  // namespace nbdupload
