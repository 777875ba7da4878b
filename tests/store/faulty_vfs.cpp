// SPDX-License-Identifier: BSD-3-Clause
//
// Files are the real ones, wrapped.

#include "faulty_vfs.h"

#include <sqlite3.h>

#include <atomic>
#include <utility>

#include "wrapped_file.h"

namespace upload::testing {

namespace {

sqlite3_vfs* real = nullptr;
sqlite3_vfs faulty;
std::atomic<FaultyVfs::Fault> fault = FaultyVfs::Fault::kNone;
std::atomic<uint64_t> first = 0;
std::atomic<uint64_t> count = 0;
std::atomic<bool> syncs = true;
std::function<void()> instead_of_sync;

enum class Operation { kWrite, kSync, kOther };

// SQLITE_OK, or how the operation fails.
int begin(Operation operation) {
  const bool due = count++ >= first;
  if (!due) return SQLITE_OK;
  switch (fault) {
    case FaultyVfs::Fault::kCrash: return SQLITE_IOERR;
    case FaultyVfs::Fault::kNoSpace:
      return operation == Operation::kWrite ? SQLITE_FULL : SQLITE_OK;
    case FaultyVfs::Fault::kSyncError:
      return operation == Operation::kSync ? SQLITE_IOERR_FSYNC : SQLITE_OK;
    default: return SQLITE_OK;
  }
}

int x_write(sqlite3_file* f, const void* from, int n, sqlite3_int64 at) {
  const int code = begin(Operation::kWrite);
  return code == SQLITE_OK ? real_calls(f).xWrite(real_file(f), from, n, at) : code;
}
int x_truncate(sqlite3_file* f, sqlite3_int64 size) {
  const int code = begin(Operation::kOther);
  return code == SQLITE_OK ? real_calls(f).xTruncate(real_file(f), size) : code;
}
int x_sync(sqlite3_file* f, int flags) {
  const int code = begin(Operation::kSync);
  if (code == SQLITE_OK && syncs) return real_calls(f).xSync(real_file(f), flags);
  if (code == SQLITE_OK && instead_of_sync) instead_of_sync();
  return code;
}

const sqlite3_io_methods* methods() {
  static const sqlite3_io_methods table = [] {
    sqlite3_io_methods calls = calls_that_pass_on();
    calls.xWrite = x_write;
    calls.xTruncate = x_truncate;
    calls.xSync = x_sync;
    return calls;
  }();
  return &table;
}

int x_open(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out) {
  const int code = open_behind<WrappedFile>(*real, name, file, flags, out);
  if (real_file(file)->pMethods != nullptr) file->pMethods = methods();
  return code;
}

int x_delete(sqlite3_vfs*, const char* name, int sync) {
  const int code = begin(Operation::kOther);
  return code == SQLITE_OK ? real->xDelete(real, name, syncs ? sync : 0) : code;
}

}  // namespace

FaultyVfs::FaultyVfs() {
  real = sqlite3_vfs_find(nullptr);
  faulty = wrap<WrappedFile>(*real, "faulty");
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
