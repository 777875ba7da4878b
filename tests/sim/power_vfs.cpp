// SPDX-License-Identifier: BSD-3-Clause
//
// What was written to a file since the process first knew it is kept as a list of
// operations, by inode: names change.

#include "sim/power_vfs.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <vector>

#include "sim/scheduler.h"
#include "store/wrapped_file.h"

namespace upload::sim {

using testing::real_calls;
using testing::real_file;
namespace fs = std::filesystem;
using namespace std::chrono_literals;

namespace {

constexpr size_t kSector = 512;  // bytes; a disk writes it whole or not
using Bytes = std::vector<char>;

struct Operation {
  enum class State { kPending, kSynced, kForgotten };
  State state = State::kPending;
  bool truncates = false;
  uint64_t offset = 0;  // or the size that it is truncated to
  Bytes data;

  void apply(Bytes& content, size_t from, size_t to) const {
    content.resize(std::max<size_t>(content.size(), offset + to));
    std::copy(data.begin() + static_cast<ptrdiff_t>(from),
              data.begin() + static_cast<ptrdiff_t>(to),
              content.begin() + static_cast<ptrdiff_t>(offset + from));
  }
  void apply(Bytes& content) const {
    if (truncates)
      content.resize(offset);
    else
      apply(content, 0, data.size());
  }
};

struct File {
  Bytes base;  // is on the disk
  std::vector<Operation> operations;
  bool made_durably = true;

  [[nodiscard]] Bytes content() const {
    Bytes content = base;
    for (const Operation& operation : operations) operation.apply(content);
    return content;
  }
  void sync(bool lies) {
    using State = Operation::State;
    for (Operation& operation : operations)
      if (operation.state == State::kPending)
        operation.state = lies ? State::kForgotten : State::kSynced;
    if (lies) return;
    made_durably = true;
    if (std::any_of(operations.begin(), operations.end(), [](const Operation& operation) {
          return operation.state == State::kForgotten;
        }))
      return;
    base = content();
    operations.clear();
  }
  // What the disk has when the power goes.
  [[nodiscard]] Bytes left() const {
    soak::Random& random = scheduler().random();
    Bytes content = base;
    // All, nothing, or some: each is a case of its own.
    static constexpr unsigned kShares[] = {0, 50, 100};
    const unsigned share = kShares[random.below(3)];
    for (const Operation& operation : operations) {
      if (operation.state == Operation::State::kSynced) {
        operation.apply(content);
      } else if (operation.truncates) {
        if (random.percent(share)) operation.apply(content);
      } else {
        const size_t size = operation.data.size();
        for (size_t from = 0, to = 0; from < size; from = to) {
          to = std::min(size, from + kSector - (operation.offset + from) % kSector);
          if (random.percent(share)) operation.apply(content, from, to);
        }
      }
    }
    return content;
  }
};

struct Wrapped {
  testing::WrappedFile passed_on;  // first
  File* file;
};

Bytes read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void write_file(const std::string& path, const Bytes& content) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  require(out.good(), "the simulated disk can't be written");
}

PowerVfs* vfs = nullptr;  // the one there is
sqlite3_vfs* below = nullptr;
sqlite3_vfs above;

}  // namespace

struct PowerVfs::Disk {
  std::map<ino_t, File> files;
  std::set<sqlite3_file*> open;
};

// What SQLite calls.
struct PowerCalls {
  static Wrapped& wrapped(sqlite3_file* file) { return *reinterpret_cast<Wrapped*>(file); }

  static int close(sqlite3_file* f) {
    vfs->disk_->open.erase(f);
    return real_calls(f).xClose(real_file(f));
  }
  static int read(sqlite3_file* f, void* to, int n, sqlite3_int64 at) {
    if (vfs->due(PowerVfs::Fault::kRead)) return SQLITE_IOERR_READ;
    return real_calls(f).xRead(real_file(f), to, n, at);
  }
  static int write(sqlite3_file* f, const void* from, int n, sqlite3_int64 at) {
    scheduler().sleep(20us);
    if (vfs->due(PowerVfs::Fault::kWrite)) return SQLITE_IOERR_WRITE;
    if (vfs->full) {
      sqlite3_int64 size = 0;
      real_calls(f).xFileSize(real_file(f), &size);
      if (at + n > size) return SQLITE_FULL;
    }
    const int code = real_calls(f).xWrite(real_file(f), from, n, at);
    if (code != SQLITE_OK) return code;
    const auto* const data = static_cast<const char*>(from);
    wrapped(f).file->operations.push_back(
        {Operation::State::kPending, false, static_cast<uint64_t>(at), Bytes(data, data + n)});
    return code;
  }
  static int truncate(sqlite3_file* f, sqlite3_int64 size) {
    scheduler().sleep(20us);
    const int code = real_calls(f).xTruncate(real_file(f), size);
    if (code == SQLITE_OK)
      wrapped(f).file->operations.push_back(
          {Operation::State::kPending, true, static_cast<uint64_t>(size), {}});
    return code;
  }
  static int sync(sqlite3_file* f, int) {
    do {
      scheduler().sleep(std::max<Duration>(300us, vfs->hangs_until - scheduler().now()));
    } while (scheduler().now() < vfs->hangs_until);
    const bool lies = vfs->due(PowerVfs::Fault::kSync);
    vfs->has_lied_ = vfs->has_lied_ || lies;
    wrapped(f).file->sync(lies);
    return lies ? SQLITE_IOERR_FSYNC : SQLITE_OK;
  }

  static const sqlite3_io_methods* methods() {
    static const sqlite3_io_methods table = [] {
      sqlite3_io_methods calls = testing::calls_that_pass_on();
      calls.xClose = close;
      calls.xRead = read;
      calls.xWrite = write;
      calls.xTruncate = truncate;
      calls.xSync = sync;
      return calls;
    }();
    return &table;
  }

  static int open(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out) {
    const bool is_new = name != nullptr && !fs::exists(name);
    const int code = testing::open_behind<Wrapped>(*below, name, file, flags, out);
    if (real_file(file)->pMethods == nullptr) return code;
    struct stat about = {};
    require(name != nullptr && stat(name, &about) == 0, "SQLite has a file without a name");
    File& known = vfs->disk_->files[about.st_ino];
    // What others have made, or another file with the number of one that is gone.
    const Bytes content = read_file(name);
    if (is_new || known.content() != content) known = {content, {}, !is_new};
    wrapped(file).file = &known;
    file->pMethods = methods();
    vfs->disk_->open.insert(file);
    return code;
  }
};

PowerVfs::PowerVfs() : disk_(std::make_unique<Disk>()) {
  require(vfs == nullptr, "there are two simulated disks");
  vfs = this;
  below = sqlite3_vfs_find("unix");
  above = testing::wrap<Wrapped>(*below, "power");
  above.xOpen = PowerCalls::open;
  sqlite3_vfs_register(&above, 1);
}

PowerVfs::~PowerVfs() {
  close_all();
  sqlite3_vfs_unregister(&above);
  sqlite3_vfs_register(below, 1);
  vfs = nullptr;
}

void PowerVfs::fail(Fault fault, uint64_t operations) {
  fault_ = fault;
  operations_left_ = operations;
}

bool PowerVfs::due(Fault fault) {
  if (fault_ == Fault::kNone) return false;
  if (operations_left_ > 0) {
    --operations_left_;
    return false;
  }
  if (fault_ != fault) return false;
  fault_ = Fault::kNone;
  return true;
}

void PowerVfs::close_all() {
  for (sqlite3_file* const file : disk_->open) real_calls(file).xClose(real_file(file));
  disk_->open.clear();
}

void PowerVfs::lose_power(const std::string& directory) {
  require(disk_->open.empty(), "a file is open when the power goes");
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path());
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    struct stat about = {};
    if (stat(name.c_str(), &about) != 0) continue;
    const auto found = disk_->files.find(about.st_ino);
    if (found == disk_->files.end()) continue;
    const File& file = found->second;
    if (!file.made_durably && scheduler().random().percent(50)) {
      scheduler().note("disk: a file is gone");
      unlink(name.c_str());
      disk_->files.erase(found);
      continue;
    }
    const Bytes left = file.left();
    scheduler().note("disk: %zu bytes of a file of %zu are left", left.size(),
                     file.content().size());
    write_file(name, left);
    found->second = {left, {}, true};
  }
}

}  // namespace upload::sim
