// SPDX-License-Identifier: BSD-3-Clause
//
// SqliteStore: a Store on disk, in an SQLite database of its own. What append()
// and drop() have returned for is synced (fdatasync).
//
// Damage is found: each row has a SHA-256, and the database one of all its
// rows, so that no row can change or be missing without notice. A failure
// that may have left the file in doubt ends the store: everything after it
// fails in the same way. So does a file that is removed or replaced while it is in use.
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

#include "base/clock.h"
#include "base/status.h"
#include "journal/own_file.h"
#include "journal/store.h"

struct sqlite3;
struct sqlite3_stmt;

namespace upload::journal {

class SqliteStore final : public Store {
 public:
  struct Options {
    std::string path;
    std::string url;               // no secret in it; a file gets it if `size` is given
    uint64_t size = 0;             // of the disk, in bytes; 0: that of the file
    const Clock* clock = nullptr;  // says when changes are appended; null: nobody does
    std::string disk = {};         // says which disk, without secrets; empty: any, or not said
  };

  // Opens the file, or makes it. A file that is there is written to only when it is known
  // to be a spool of this disk, and the process's own (own_file.h). `verify`: reads
  // everything in it, and fails if anything is not as it was written.
  [[nodiscard]] static Result<std::unique_ptr<SqliteStore>> open(const Options& options,
                                                                 bool verify);
  // The URL in a file, which may be in use and is not touched; empty: none.
  [[nodiscard]] static std::string url_in(const std::string& path);
  ~SqliteStore() override;
  SqliteStore(const SqliteStore&) = delete;
  SqliteStore& operator=(const SqliteStore&) = delete;

  [[nodiscard]] Result<std::vector<SpoolRow>> rows() override;
  [[nodiscard]] bool had_torn_tail() const override { return torn_tail_; }
  [[nodiscard]] bool empty() const override {
    return count_ == 0 && failed_.ok() && file_.is_at(path_);
  }
  [[nodiscard]] StoreAbout about() const override { return about_; }
  Status append(std::span<const SpoolContent> contents) override;
  Status drop(std::span<const uint64_t> ids) override;
  Result<bool> read(uint64_t id, uint64_t skip, void* buffer, uint64_t length) override;
  Status shrink() override;
  Status check() override;

 private:
  using Digest = std::array<std::byte, 32>;
  struct Close {
    void operator()(sqlite3* database) const;
  };
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

  explicit SqliteStore(const Options& options) : path_(options.path), clock_(options.clock) {}
  Status open_files(const Options& options);
  Status read_header();
  Status glance();
  [[nodiscard]] static Status look_before_rollback(const Options& options);
  Status create(const Options& options) const;
  Status connect();
  Status load(const Options& options);
  Status check_schema();
  Status check_row(sqlite3_stmt* statement) const;
  Status load_about();
  Status check_disk(const Options& options) const;
  Status prepare_all();
  Status open_journal();
  Status set_url(const std::string& url);
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
  const Clock* const clock_;
  bool torn_tail_ = false;
  int format_ = 0;    // of the file
  std::string disk_;  // as the file says; empty: it does not
  // Before the database, so that they are closed after it. The journal's is none as long
  // as there is no journal.
  OwnFile file_;
  OwnFile journal_;
  std::unique_ptr<sqlite3, Close> database_;
  Statement insert_, delete_, update_, select_;
  // As in the file: how many rows, and their digests added up (XOR).
  uint64_t count_ = 0;
  Digest digest_ = {};
  StoreAbout about_;
  Status failed_;
};

}  // namespace upload::journal
