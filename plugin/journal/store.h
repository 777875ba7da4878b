// SPDX-License-Identifier: BSD-3-Clause
//
// Store: changes in a place that outlives the process, so that neither a crash
// nor kill -9 loses what append() has returned for. And SpoolPlace: the one
// place where the store of a volume is, which one process holds at a time.
//
// The plugin's are SqliteStore and SpoolFile; the simulation has others.
//
// A spool is a disk's: the path of the upload URL, which has the ticket in it,
// says which. The same path under another host may be the same disk, under
// another name of its server, or another disk; others() tells of those.
//
// One thread at a time.

#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/byte_range.h"
#include "base/log.h"
#include "base/status.h"

namespace upload::journal {

// What is known of a row without its content.
struct SpoolRow {
  uint64_t id = 0;
  ByteRange range;
  uint64_t sequence = 0;
  bool zero = false;
  // Not to be sent to the server before that, in seconds since 1970; 0: at
  // any time.
  int64_t not_before = 0;
};

struct SpoolContent {
  SpoolRow row;
  const void* data = nullptr;  // row.range.length bytes; null: zeroes
};

// Which spool: of what disk, and under which of its server's names.
struct SpoolName {
  std::string host;  // with the port, as the upload URL spells them
  std::string path;  // of the upload URL; secret
};

// What a store says of itself.
struct StoreAbout {
  std::string url;         // of the last upload to it, without secrets
  uint64_t size = 0;       // of the disk, in bytes
  int64_t changed_at = 0;  // when rows were last appended, in seconds since 1970; 0: never
};

// Each change is a row; its content is newer than that of the rows with a
// lower sequence. append() and drop() are transactions: done, and durable,
// when they return, or not at all.
class Store {
 public:
  virtual ~Store() = default;

  // The rows there are, by sequence.
  [[nodiscard]] virtual Result<std::vector<SpoolRow>> rows() = 0;
  // A transaction that was not finished when the store was last in use was
  // taken back; nobody had been told that it was done.
  [[nodiscard]] virtual bool had_torn_tail() const = 0;
  // It has no rows, and is in good order.
  [[nodiscard]] virtual bool empty() const = 0;
  [[nodiscard]] virtual StoreAbout about() const = 0;

  // Adds rows; removes them. Kind::kNoSpace: the disk is full, nothing has
  // changed; Kind::kSpool: the store has failed.
  virtual Status append(std::span<const SpoolContent> contents) = 0;
  virtual Status drop(std::span<const uint64_t> ids) = 0;
  // Copies `length` bytes from `skip` on of a row with data; checks all of it.
  // False: there is no such row.
  virtual Result<bool> read(uint64_t id, uint64_t skip, void* buffer, uint64_t length) = 0;
  // Gives the disk space of dropped rows back.
  virtual Status shrink() = 0;
  // The store is still where the next start looks for it. append() and drop() look, too.
  virtual Status check() = 0;
};

// One line about a transaction that was taken back, if there was one.
inline void warn_of_torn_tail(const Store& store, const std::string& path) {
  if (store.had_torn_tail())
    log::warning(
        "%s: what was being written when nbdkit ended is taken back; nobody had been "
        "told that it was done",
        path.c_str());
}

// Holds the place until it is destroyed, or the process ends in any way.
class SpoolPlace {
 public:
  virtual ~SpoolPlace() = default;

  // Of the store, for texts.
  [[nodiscard]] virtual const std::string& path() const = 0;
  // There is a store: an earlier process did not remove it at its end.
  [[nodiscard]] virtual bool exists() const = 0;
  // Opens the store, or makes it. `size` is the disk's, in bytes. With 0 the
  // store may be of any size, and keeps its URL; otherwise it gets `url`, which
  // has no secrets in it. `verify`: reads everything in it, and fails if
  // anything is not as it was written.
  [[nodiscard]] virtual Result<std::unique_ptr<Store>> open(const std::string& url, uint64_t size,
                                                            bool verify) = 0;
  // Removes the store, which is not open, with all that is in it.
  virtual void remove() = 0;

  // Places of the same path under other hosts that have a store and that nobody
  // else holds. They are held from now on.
  [[nodiscard]] virtual Result<std::vector<std::unique_ptr<SpoolPlace>>> others() = 0;
  // Moves the store of `other`, one of others(), here, where there is none, or
  // an empty one. Neither is open.
  virtual Status take_over(SpoolPlace& other) = 0;
};

}  // namespace upload::journal
