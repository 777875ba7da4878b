// SPDX-License-Identifier: BSD-3-Clause
//
// SpoolStore: changes on disk, in an SQLite database of their own, so that
// neither a crash nor kill -9 loses what append() has returned for.
//
// Each change is a row; its content is newer than that of the rows with a
// lower sequence. append() and drop() are transactions: done when they
// return, on the disk (fdatasync), or not at all.
//
// Damage is found: each row has a SHA-256, and the database one of all its
// rows, so that no row can change or be missing without notice. A failure
// that may have left the file in doubt ends the store: everything after it
// fails in the same way.
//
// Why SQLite with a rollback journal, and what is in the file, is in
// docs/spool.md. One thread at a time.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/byte_range.h"
#include "base/status.h"

struct sqlite3;
struct sqlite3_stmt;

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

class SpoolStore {
 public:
  struct Options {
    std::string path;
    std::string url;    // for whoever looks into the file; no secret in it
    uint64_t size = 0;  // of the disk, in bytes; 0: that of the file
  };

  // Opens the file, or makes it. `verify`: reads everything in it, and fails
  // if anything is not as it was written.
  [[nodiscard]] static Result<std::unique_ptr<SpoolStore>> open(const Options& options,
                                                                bool verify);
  ~SpoolStore();
  SpoolStore(const SpoolStore&) = delete;
  SpoolStore& operator=(const SpoolStore&) = delete;

  // The rows there are, by sequence.
  [[nodiscard]] Result<std::vector<SpoolRow>> rows();
  // A transaction that was not finished when the file was last in use was
  // taken back; nobody had been told that it was done.
  [[nodiscard]] bool had_torn_tail() const { return torn_tail_; }
  // It has no rows, and is in good order.
  [[nodiscard]] bool empty() const { return count_ == 0 && failed_.ok(); }

  // Adds rows; removes them. Kind::kNoSpace: the disk is full, nothing has
  // changed; Kind::kSpool: the store has failed.
  Status append(std::span<const SpoolContent> contents);
  Status drop(std::span<const uint64_t> ids);
  // Copies `length` bytes from `skip` on of a row with data; checks all of it.
  // False: there is no such row.
  Result<bool> read(uint64_t id, uint64_t skip, void* buffer, uint64_t length);
  // Gives the disk space of dropped rows back.
  Status shrink();

 private:
  using Digest = std::array<std::byte, 32>;
  struct Close {
    void operator()(sqlite3* database) const;
  };
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

  explicit SpoolStore(std::string path) : path_(std::move(path)) {}
  Status create(const Options& options) const;
  Status connect();
  Status load(const Options& options);
  Status verify();
  Status execute(const char* sql);
  Result<Statement> prepare(const char* sql);
  template <typename Body>
  Status transact(Body body);
  Status add_row(const SpoolContent& content);
  Status drop_row(uint64_t id);
  void add_up(const void* digest);
  [[nodiscard]] Status failure(const char* doing) const;
  [[nodiscard]] Status damaged(std::string how) const;

  const std::string path_;
  bool torn_tail_ = false;
  std::unique_ptr<sqlite3, Close> database_;
  Statement insert_, delete_, update_, select_;
  // As in the file: how many rows, and their digests added up (XOR).
  uint64_t count_ = 0;
  Digest digest_ = {};
  Status failed_;
};

}  // namespace upload::journal
