// SPDX-License-Identifier: BSD-3-Clause
//
// WrappedFile: a file of SQLite's with a real one behind it, in the same piece of memory,
// which SQLite allots by szOsFile (https://www.sqlite.org/vfs.html). A file system that
// fails in some way replaces the calls that it is there for; the others pass on.

#pragma once

#include <sqlite3.h>

#include <new>

namespace upload::testing {

// Begins what a file system keeps of a file.
struct WrappedFile {
  sqlite3_file base;
  sqlite3_file* real;
};

inline sqlite3_file* real_file(sqlite3_file* file) {
  return reinterpret_cast<WrappedFile*>(file)->real;
}
inline const sqlite3_io_methods& real_calls(sqlite3_file* file) {
  return *real_file(file)->pMethods;
}

// Version 1: without shared memory, which only a write-ahead log needs.
inline sqlite3_io_methods calls_that_pass_on() {
  sqlite3_io_methods calls = {};
  calls.iVersion = 1;
  calls.xClose = [](sqlite3_file* f) { return real_calls(f).xClose(real_file(f)); };
  calls.xRead = [](sqlite3_file* f, void* to, int n, sqlite3_int64 at) {
    return real_calls(f).xRead(real_file(f), to, n, at);
  };
  calls.xWrite = [](sqlite3_file* f, const void* from, int n, sqlite3_int64 at) {
    return real_calls(f).xWrite(real_file(f), from, n, at);
  };
  calls.xTruncate = [](sqlite3_file* f, sqlite3_int64 size) {
    return real_calls(f).xTruncate(real_file(f), size);
  };
  calls.xSync = [](sqlite3_file* f, int flags) {
    return real_calls(f).xSync(real_file(f), flags);
  };
  calls.xFileSize = [](sqlite3_file* f, sqlite3_int64* size) {
    return real_calls(f).xFileSize(real_file(f), size);
  };
  calls.xLock = [](sqlite3_file* f, int lock) { return real_calls(f).xLock(real_file(f), lock); };
  calls.xUnlock = [](sqlite3_file* f, int lock) {
    return real_calls(f).xUnlock(real_file(f), lock);
  };
  calls.xCheckReservedLock = [](sqlite3_file* f, int* result) {
    return real_calls(f).xCheckReservedLock(real_file(f), result);
  };
  calls.xFileControl = [](sqlite3_file* f, int op, void* argument) {
    return real_calls(f).xFileControl(real_file(f), op, argument);
  };
  calls.xSectorSize = [](sqlite3_file* f) { return real_calls(f).xSectorSize(real_file(f)); };
  calls.xDeviceCharacteristics = [](sqlite3_file* f) {
    return real_calls(f).xDeviceCharacteristics(real_file(f));
  };
  return calls;
}

// Opens the real file behind what a file system keeps of it, `Kept`, which begins with a
// WrappedFile. Whether there is one is to be seen from its pMethods.
template <typename Kept>
int open_behind(sqlite3_vfs& below, const char* name, sqlite3_file* file, int flags, int* out) {
  auto* const kept = new (file) Kept();
  auto& wrapped = *reinterpret_cast<WrappedFile*>(file);
  wrapped.real = reinterpret_cast<sqlite3_file*>(kept + 1);
  return below.xOpen(&below, name, wrapped.real, flags, out);
}

// `below` under another name, with room for what is kept of a file.
template <typename Kept>
sqlite3_vfs wrap(const sqlite3_vfs& below, const char* name) {
  sqlite3_vfs above = below;
  above.zName = name;
  above.szOsFile = static_cast<int>(sizeof(Kept)) + below.szOsFile;
  above.pNext = nullptr;
  return above;
}

}  // namespace upload::testing
