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
#include <cstring>
#include <filesystem>

#include "base/format.h"
#include "journal/sqlite_store.h"

namespace upload::journal {

namespace {

constexpr char kSuffix[] = ".spool";

// 32 hexadecimal digits.
std::string hash(const std::string& text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  if (EVP_Digest(text.data(), text.size(), digest, nullptr, EVP_sha256(), nullptr) != 1)
    throw std::bad_alloc();
  std::string digits;
  for (int i = 0; i < 16; ++i) digits += format("%02x", digest[i]);
  return digits;
}

std::string file_of(const SpoolName& name) {
  return hash(name.path) + "-" + hash(name.host) + kSuffix;
}

// As the first releases called it.
std::string old_file_of(const SpoolName& name) { return hash(name.host + name.path) + kSuffix; }

// HOST:PORT in "https://HOST:PORT/images/...".
std::string host_in(const std::string& url) {
  const size_t colon = url.find("://");
  if (colon == url.npos) return "";
  return url.substr(colon + 3, url.find('/', colon + 3) - colon - 3);
}

// Also a link that leads nowhere, so that nothing is made where it leads to.
bool is_there(const std::string& path) {
  struct stat about = {};
  return lstat(path.c_str(), &about) == 0;
}

Status busy(const std::string& directory, const std::string& path) {
  return {Kind::kSpool,
          "spool=" + directory + ": another nbdkit uses " + path + ", the spool of this disk"};
}

}  // namespace

Result<std::unique_ptr<SpoolFile>> SpoolFile::lock(const std::string& directory,
                                                   const SpoolName& name, const Clock& clock) {
  if (Status status = check_own_directory(directory); !status.ok()) return status;
  auto place = lock_file(directory, name, clock, file_of(name));
  if (!place.ok()) return place.status();
  if (!place.value()) return busy(directory, directory + "/" + file_of(name));
  if (Status status = place.value()->take_over_old_name(); !status.ok()) return status;
  return place;
}

Result<std::unique_ptr<SpoolFile>> SpoolFile::lock_file(const std::string& directory,
                                                        const SpoolName& name, const Clock& clock,
                                                        const std::string& file) {
  const std::string path = directory + "/" + file;
  const std::string lock = lock_of(path);
  for (;;) {
    OwnFile file_lock(
        ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
    if (!file_lock.there() && errno == ELOOP)
      return Status(Kind::kSpool,
                    "the lock " + lock + " is a symbolic link, which is not followed");
    if (!file_lock.there())
      return Status(Kind::kSpool,
                    "spool=" + directory + ": files can't be made there: " + strerror(errno));
    if (Status status = file_lock.check(lock, "the lock "); !status.ok()) return status;
    if (flock(file_lock.fd(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) return std::unique_ptr<SpoolFile>();
      return Status(Kind::kSpool,
                    "spool=" + directory + ": locks don't work there: " + strerror(errno));
    }
    // If not, its owner has just removed it.
    if (file_lock.is_at(lock))
      return std::unique_ptr<SpoolFile>(
          new SpoolFile(directory, name, clock, path, std::move(file_lock)));
  }
}

SpoolFile::~SpoolFile() {
  if (lock_.is_at(lock_of(path_))) unlink(lock_of(path_).c_str());
}

Result<std::unique_ptr<Store>> SpoolFile::open(const std::string& url, uint64_t size,
                                               bool verify) {
  auto store = SqliteStore::open({path_, url, size, &clock_, hash(name_.path)}, verify);
  if (!store.ok()) return store.status();
  return std::unique_ptr<Store>(std::move(store.value()));
}

bool SpoolFile::exists() const { return is_there(path_); }

// Where the directory or the lock was replaced, what is there is another process's.
void SpoolFile::remove() {
  if (!lock_.is_at(lock_of(path_))) return;
  unlink(path_.c_str());
  unlink((path_ + "-journal").c_str());
}

// What one of the first releases has left for the same URL is as good as ours.
Status SpoolFile::take_over_old_name() {
  const std::string file = old_file_of(name_);
  const std::string path = directory_ + "/" + file;
  if (!is_there(path) && !is_there(lock_of(path))) return {};
  auto old = lock_file(directory_, name_, clock_, file);
  if (!old.ok()) return old.status();
  if (!old.value()) return busy(directory_, path);
  if (!is_there(path)) return {};
  if (is_there(path_))
    return {Kind::kSpool, "spool=" + directory_ + ": there are two spools of this disk, " + path +
                              " of an earlier release and " + path_ +
                              "; move the one away that is not to be sent"};
  // What was being written is taken back by whoever opens it: the journal
  // has to be beside it then.
  auto opened = old.value()->open("", 0, true);
  if (!opened.ok()) return opened.status();
  warn_of_torn_tail(*opened.value(), path);
  opened.value().reset();
  return take_over(*old.value());
}

// A spool of this path under another host?
bool SpoolFile::is_other(const std::string& file) const {
  if (!file.ends_with(kSuffix) || file == file_of(name_)) return false;
  if (file.starts_with(hash(name_.path) + "-")) return true;
  // Of another path or, with an old name, of the host that is in it?
  if (file.find('-') != file.npos) return false;
  const std::string host = host_in(SqliteStore::url_in(directory_ + "/" + file));
  return !host.empty() && file == old_file_of({host, name_.path});
}

Result<std::vector<std::unique_ptr<SpoolPlace>>> SpoolFile::others() {
  std::vector<std::unique_ptr<SpoolPlace>> places;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory_, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string file = entry->path().filename();
    if (!is_other(file)) continue;
    auto place = lock_file(directory_, name_, clock_, file);
    if (!place.ok()) return place.status();
    // Another nbdkit uses it, or has just removed it.
    if (!place.value() || !is_there(place.value()->path_)) continue;
    places.push_back(std::move(place.value()));
  }
  if (error)
    return Status(Kind::kSpool, "spool=" + directory_ + ": can't be read: " + error.message());
  return places;
}

Status SpoolFile::take_over(SpoolPlace& other) {
  // Ours is empty if there is one; the other takes its place.
  unlink((path_ + "-journal").c_str());
  // Whoever opened it has taken back what there was to be taken back. What is left is the
  // beginning of a journal, of a process that was killed before the file was touched.
  unlink((other.path() + "-journal").c_str());
  const int directory = ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool done =
      directory >= 0 && rename(other.path().c_str(), path_.c_str()) == 0 && fsync(directory) == 0;
  const int error = errno;
  if (directory >= 0) close(directory);
  if (done) return {};
  return {Kind::kSpool,
          "the spool " + other.path() + " can't become " + path_ + ": " + strerror(error)};
}

}  // namespace upload::journal
