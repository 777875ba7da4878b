// SPDX-License-Identifier: BSD-3-Clause
//
// The locks of a process that is "killed" are descriptors that nobody will close, since
// its fibers only stop: they are found by what they lead to.

#include "sim/sqlite_disk.h"

#include <unistd.h>

#include <filesystem>

#include "journal/spool_file.h"
#include "journal/sqlite_store.h"

namespace upload::sim {

namespace fs = std::filesystem;

namespace {

constexpr char kHere[] = ".";

}  // namespace

std::string SqliteDisk::directory_of(int pid) {
  // In memory where there is such a place: what is durable is up to PowerVfs.
  static const fs::path parent =
      access("/dev/shm", W_OK) == 0 ? fs::path("/dev/shm") : fs::temp_directory_path();
  return parent / ("simulate-" + std::to_string(pid));
}

SqliteDisk::SqliteDisk() : directory_(directory_of(getpid())) {
  fs::remove_all(directory_);
  fs::create_directory(directory_);
  // Whatever the umask is: a spool is refused where others may write.
  fs::permissions(directory_, fs::perms::owner_all);
  fs::current_path(directory_);
}

SqliteDisk::~SqliteDisk() {
  killed();
  std::error_code ignored;
  fs::current_path("/", ignored);
  fs::remove_all(directory_, ignored);
}

Result<std::unique_ptr<journal::SpoolPlace>> SqliteDisk::take(const journal::SpoolName& name,
                                                              const Clock& clock) {
  auto place = journal::SpoolFile::lock(kHere, name, clock);
  if (!place.ok()) return place.status();
  return std::unique_ptr<journal::SpoolPlace>(std::move(place.value()));
}

std::vector<std::string> SqliteDisk::stores() {
  std::vector<std::string> paths;
  for (const auto& entry : fs::directory_iterator(kHere))
    if (entry.path().extension() == ".spool") paths.push_back(entry.path());
  return paths;
}

uint64_t SqliteDisk::rows() {
  uint64_t rows = 0;
  for (const std::string& path : stores()) {
    auto store = journal::SqliteStore::open({path, "", 0, nullptr}, true);
    auto found = store.ok() ? store.value()->rows() : store.status();
    if (!found.ok()) fail(found.status().text());
    rows += found.value().size();
  }
  return rows;
}

void SqliteDisk::fail_soon() {
  using Fault = PowerVfs::Fault;
  static constexpr Fault kFaults[] = {Fault::kWrite, Fault::kRead, Fault::kSync};
  soak::Random& random = scheduler().random();
  // One after another: the order of arguments is the compiler's choice.
  const Fault fault = kFaults[random.below(3)];
  vfs_.fail(fault, random.below(60));
}

void SqliteDisk::mend() {
  vfs_.full = false;
  vfs_.hangs_until = scheduler().now();
  vfs_.forget_faults();
}

void SqliteDisk::killed() {
  vfs_.close_all();
  for (const int fd : descriptors()) close(fd);
}

std::vector<int> SqliteDisk::descriptors() const {
  std::vector<int> found;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const fs::path target = fs::read_symlink(entry.path(), gone);
    if (!gone && target.parent_path() == directory_)
      found.push_back(std::stoi(entry.path().filename()));
  }
  return found;
}

void SqliteDisk::lose_power() {
  scheduler().note("the power goes");
  vfs_.lose_power(kHere);
}

}  // namespace upload::sim
