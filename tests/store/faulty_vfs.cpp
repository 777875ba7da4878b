// SPDX-License-Identifier: BSD-3-Clause
//
// Files are the real ones, wrapped: a Wrapped, then the real file in the same
// piece of memory, which SQLite allots by szOsFile.

#include "faulty_vfs.h"

#include <sqlite3.h>

#include <atomic>
#include <utility>

namespace upload::testing {

namespace {

sqlite3_vfs* real = nullptr;
sqlite3_vfs faulty;
std::atomic<FaultyVfs::Fault> fault = FaultyVfs::Fault::kNone;
std::atomic<uint64_t> first = 0;
std::atomic<uint64_t> count = 0;
std::atomic<bool> syncs = true;
std::function<void()> instead_of_sync;

struct Wrapped {
  sqlite3_file base;
  sqlite3_file* file;
};

sqlite3_file* file_of(sqlite3_file* file) { return reinterpret_cast<Wrapped*>(file)->file; }

enum class Operation { kWrite, kSync, kOther };

// SQLITE_OK, or how the operation fails.
int begin(Operation operation) {
  const bool due = count++ >= first;
  if (!due) return SQLITE_OK;
  switch (fault) {
    case FaultyVfs::Fault::kCrash: return SQLITE_IOERR;
    case FaultyVfs::Fault::kNoSpace: return operation == Operation::kWrite ? SQLITE_FULL : SQLITE_OK;
    case FaultyVfs::Fault::kSyncError:
      return operation == Operation::kSync ? SQLITE_IOERR_FSYNC : SQLITE_OK;
    default: return SQLITE_OK;
  }
}

#define REAL(file) (file_of(file)->pMethods)

int x_close(sqlite3_file* f) { return REAL(f)->xClose(file_of(f)); }
int x_read(sqlite3_file* f, void* to, int n, sqlite3_int64 at) {
  return REAL(f)->xRead(file_of(f), to, n, at);
}
int x_write(sqlite3_file* f, const void* from, int n, sqlite3_int64 at) {
  const int code = begin(Operation::kWrite);
  return code == SQLITE_OK ? REAL(f)->xWrite(file_of(f), from, n, at) : code;
}
int x_truncate(sqlite3_file* f, sqlite3_int64 size) {
  const int code = begin(Operation::kOther);
  return code == SQLITE_OK ? REAL(f)->xTruncate(file_of(f), size) : code;
}
int x_sync(sqlite3_file* f, int flags) {
  const int code = begin(Operation::kSync);
  if (code == SQLITE_OK && syncs) return REAL(f)->xSync(file_of(f), flags);
  if (code == SQLITE_OK && instead_of_sync) instead_of_sync();
  return code;
}
int x_file_size(sqlite3_file* f, sqlite3_int64* size) {
  return REAL(f)->xFileSize(file_of(f), size);
}
int x_lock(sqlite3_file* f, int lock) { return REAL(f)->xLock(file_of(f), lock); }
int x_unlock(sqlite3_file* f, int lock) { return REAL(f)->xUnlock(file_of(f), lock); }
int x_check_reserved_lock(sqlite3_file* f, int* result) {
  return REAL(f)->xCheckReservedLock(file_of(f), result);
}
int x_file_control(sqlite3_file* f, int op, void* arg) {
  return REAL(f)->xFileControl(file_of(f), op, arg);
}
int x_sector_size(sqlite3_file* f) { return REAL(f)->xSectorSize(file_of(f)); }
int x_device_characteristics(sqlite3_file* f) {
  return REAL(f)->xDeviceCharacteristics(file_of(f));
}

#undef REAL

const sqlite3_io_methods* methods() {
  static const sqlite3_io_methods table = [] {
    sqlite3_io_methods m = {};
    m.iVersion = 1;
    m.xClose = x_close;
    m.xRead = x_read;
    m.xWrite = x_write;
    m.xTruncate = x_truncate;
    m.xSync = x_sync;
    m.xFileSize = x_file_size;
    m.xLock = x_lock;
    m.xUnlock = x_unlock;
    m.xCheckReservedLock = x_check_reserved_lock;
    m.xFileControl = x_file_control;
    m.xSectorSize = x_sector_size;
    m.xDeviceCharacteristics = x_device_characteristics;
    return m;
  }();
  return &table;
}

int x_open(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out) {
  auto* const wrapped = reinterpret_cast<Wrapped*>(file);
  wrapped->base.pMethods = nullptr;
  wrapped->file = reinterpret_cast<sqlite3_file*>(wrapped + 1);
  const int code = real->xOpen(real, name, wrapped->file, flags, out);
  if (wrapped->file->pMethods != nullptr) wrapped->base.pMethods = methods();
  return code;
}

int x_delete(sqlite3_vfs*, const char* name, int sync) {
  const int code = begin(Operation::kOther);
  return code == SQLITE_OK ? real->xDelete(real, name, syncs ? sync : 0) : code;
}

}  // namespace

FaultyVfs::FaultyVfs() {
  real = sqlite3_vfs_find(nullptr);
  faulty = *real;
  faulty.zName = "faulty";
  faulty.szOsFile = static_cast<int>(sizeof(Wrapped)) + real->szOsFile;
  faulty.pNext = nullptr;
  faulty.xOpen = x_open;
  faulty.xDelete = x_delete;
  set(Fault::kNone);
  syncs = true;
  sqlite3_vfs_register(&faulty, 1);
}

FaultyVfs::~FaultyVfs() { sqlite3_vfs_unregister(&faulty); }

void FaultyVfs::set(Fault f, uint64_t from) {
  fault = f;
  first = from;
  count = 0;
}

void FaultyVfs::skip_syncs(std::function<void()> instead) {
  syncs = false;
  instead_of_sync = std::move(instead);
}

uint64_t FaultyVfs::operations() const { return count; }

}  // namespace upload::testing
