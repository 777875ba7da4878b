// SPDX-License-Identifier: BSD-3-Clause
//
// The only file that includes SQLite. The schema:
//
//   spool    one row: the volume, and what all changes add up to
//   change   one row for each change; data is NULL for zeroes
//
// A rollback journal rather than a write-ahead log: content is written once,
// to its place (measured: 1.3 to 1.6 times the speed), a transaction that was
// torn is one that left a journal, and rows that were once committed can't
// vanish with the end of a log without a trace.
//
// Format 1, of the first releases, does not have the time of the last change, and format 2
// not the disk; such a file is used as it is until it is empty.
//
// Before anything is written to a file that is there, it has to be a spool of this disk:
// its header is looked at without SQLite, then its schema, which has to be that of
// create() to the letter (a view in place of a table might never end, a trigger might do
// anything), then what it says of itself. The exception is a journal that is rolled back
// first: see look_before_rollback().
//
// A new file is made under another name, so that one which is empty or cut
// off is always damage.
//
// Sources: https://www.sqlite.org/c3ref/intro.html, /pragma.html,
// /atomiccommit.html (why a commit survives a crash).

#include "journal/sqlite_store.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/file_size_limit.h"
#include "base/format.h"

namespace upload::journal {

namespace {

constexpr int kApplicationId = 0x55504c44;  // "UPLD"
constexpr int kFormat = 3;
constexpr int kFormatWithoutDisk = 2;
constexpr int kFormatWithoutTime = 1;
constexpr int kPageSize = 4096;  // bytes
// Left free for what it takes to drop rows, in bytes.
constexpr uint64_t kReserve = uint64_t{4} << 20;

constexpr char kTheSpool[] = "the spool ";
constexpr char kTheJournal[] = "the journal ";

std::string journal_of(const std::string& path) { return path + "-journal"; }

// The statements that make the tables, as SQLite keeps them.
std::vector<std::string> schema_of(int format) {
  std::string columns = "url TEXT, size INTEGER, count INTEGER, digest BLOB";
  if (format >= kFormatWithoutDisk) columns += ", changed_at INTEGER";
  if (format >= kFormat) columns += ", disk TEXT";
  return {"CREATE TABLE spool (" + columns + ")",
          "CREATE TABLE change (id INTEGER PRIMARY KEY, offset INTEGER, length INTEGER,"
          " sequence INTEGER, zero INTEGER, not_before INTEGER, digest BLOB, data BLOB)"};
}

// SHA-256 of all that makes a row: six numbers, little endian, then the data.
std::array<std::byte, 32> digest_of(const SpoolRow& row, const void* data) {
  const uint64_t fields[] = {row.id,           row.range.offset,
                             row.range.length, row.sequence,
                             row.zero,         static_cast<uint64_t>(row.not_before)};
  std::array<unsigned char, sizeof fields> header = {};
  for (size_t i = 0; i < header.size(); ++i)
    header[i] = static_cast<unsigned char>(fields[i / 8] >> (i % 8 * 8));
  std::array<std::byte, 32> digest = {};
  EVP_MD_CTX* const context = EVP_MD_CTX_new();
  const bool done =
      context != nullptr && EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1 &&
      EVP_DigestUpdate(context, header.data(), header.size()) == 1 &&
      (data == nullptr || EVP_DigestUpdate(context, data, row.range.length) == 1) &&
      EVP_DigestFinal_ex(context, reinterpret_cast<unsigned char*>(digest.data()), nullptr) == 1;
  EVP_MD_CTX_free(context);
  if (!done) throw std::bad_alloc();
  return digest;
}

uint64_t column_u64(sqlite3_stmt* statement, int column) {
  return static_cast<uint64_t>(sqlite3_column_int64(statement, column));
}

// The columns id, offset, length, sequence, zero, not_before.
SpoolRow row_of(sqlite3_stmt* statement) {
  SpoolRow row;
  row.id = column_u64(statement, 0);
  row.range = {column_u64(statement, 1), column_u64(statement, 2)};
  row.sequence = column_u64(statement, 3);
  row.zero = sqlite3_column_int(statement, 4) != 0;
  row.not_before = sqlite3_column_int64(statement, 5);
  return row;
}

std::string column_text(sqlite3_stmt* statement, int column) {
  const auto* const text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
  return text == nullptr ? "" : text;
}

bool is_number(sqlite3_stmt* statement, int column) {
  return sqlite3_column_type(statement, column) == SQLITE_INTEGER;
}

bool is_digest(sqlite3_stmt* statement, int column) {
  return sqlite3_column_type(statement, column) == SQLITE_BLOB &&
         sqlite3_column_bytes(statement, column) == 32;
}

}  // namespace

void SqliteStore::Close::operator()(sqlite3* database) const { sqlite3_close(database); }

void SqliteStore::Finalize::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

SqliteStore::~SqliteStore() = default;

// --- Failures -------------------------------------------------------------

Status SqliteStore::failure(const char* doing) const {
  const int code = sqlite3_extended_errcode(database_.get());
  if ((code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB)
    return damaged(sqlite3_errmsg(database_.get()));
  const int error = sqlite3_system_errno(database_.get());
  std::string text =
      "the spool " + path_ + " could not be " + doing + ": " + sqlite3_errmsg(database_.get());
  // SQLite does not always keep errno.
  const bool too_large = file_size_limit_was_met() && (code & 0xff) == SQLITE_IOERR;
  if (too_large || error != 0)
    text += std::string(" (") + strerror(too_large ? EFBIG : error) + ")";
  const bool full = (code & 0xff) == SQLITE_FULL ||
                    ((code & 0xff) == SQLITE_IOERR && (error == ENOSPC || error == EDQUOT));
  // It passes, like a disk that is full, and nothing was written.
  const bool starved =
      (code & 0xff) == SQLITE_NOMEM || ((code & 0xff) == SQLITE_CANTOPEN &&
                                        (error == EMFILE || error == ENFILE || error == ENOMEM));
  return {full || too_large || starved ? Kind::kNoSpace : Kind::kSpool, text};
}

Status SqliteStore::damaged(std::string how) const {
  std::replace(how.begin(), how.end(), '\n', ' ');
  return {Kind::kSpool, "the spool " + path_ + " is damaged: " + how +
                            "; it is left as it is, to be looked into"};
}

Status SqliteStore::execute(const char* sql) {
  if (sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK)
    return failure("used");
  return {};
}

Result<SqliteStore::Statement> SqliteStore::prepare(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(database_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &statement,
                         nullptr) != SQLITE_OK)
    return failure("used");
  return Statement(statement);
}

// --- Opening --------------------------------------------------------------

Result<std::unique_ptr<SqliteStore>> SqliteStore::open(const Options& options, bool verify) {
  const FileSizeLimitFails limit_fails;
  std::unique_ptr<SqliteStore> store(new SqliteStore(options));
  if (Status status = store->open_files(options); !status.ok()) return status;
  if (Status status = store->read_header(); !status.ok()) return status;
  store->torn_tail_ = store->journal_.size() > 0;
  if (store->torn_tail_)
    if (Status status = look_before_rollback(options); !status.ok()) return status;
  if (Status status = store->connect(); !status.ok()) return status;
  if (Status status = store->load(options); !status.ok()) return status;
  if (verify)
    if (Status status = store->verify(); !status.ok()) return status;
  // A transaction that changes a page opens the journal, which stays open: the
  // process may be short of descriptors when the first change comes.
  if (options.size != 0)
    if (Status status = store->open_journal(); !status.ok()) return status;
  // SQLite may have removed the one that was there.
  auto journal = OwnFile::open(journal_of(options.path), kTheJournal);
  if (!journal.ok()) return journal.status();
  store->journal_ = std::move(journal.value());
  return store;
}

// Both are checked before SQLite has touched either.
Status SqliteStore::open_files(const Options& options) {
  auto journal = OwnFile::open(journal_of(path_), kTheJournal);
  if (!journal.ok()) return journal.status();
  auto file = OwnFile::open(path_, kTheSpool);
  if (!file.ok()) return file.status();
  if (!file.value().there()) {
    // SQLite would roll it back into the new one.
    if (journal.value().size() > 0)
      return {Kind::kSpool, "the spool " + path_ + " can't be made: there is " +
                                journal_of(path_) +
                                ", which belongs to another one: put it "
                                "beside its spool, or remove it"};
    if (Status status = create(options); !status.ok()) return status;
    file = OwnFile::open(path_, kTheSpool);
    if (!file.ok()) return file.status();
    if (!file.value().there()) return file.value().check_is_at(path_, kTheSpool);
  }
  file_ = std::move(file.value());
  journal_ = std::move(journal.value());
  return {};
}

// What is at the beginning of every SQLite database
// (https://www.sqlite.org/fileformat2.html, section 1.3). None of it is changed by a
// transaction, so it is right also where one is to be rolled back.
Status SqliteStore::read_header() {
  std::array<unsigned char, 100> header = {};
  // SQLite would take it for a new one.
  if (file_.size() < kPageSize)
    return damaged(file_.size() == 0 ? "it is empty" : "it is cut off");
  if (pread(file_.fd(), header.data(), header.size(), 0) != static_cast<ssize_t>(header.size()))
    return damaged("it can't be read");
  const auto number = [&](size_t at) {
    return header[at] << 24 | header[at + 1] << 16 | header[at + 2] << 8 | header[at + 3];
  };
  if (memcmp(header.data(), "SQLite format 3", 16) != 0)
    return damaged("it is not an SQLite database");
  if (number(68) != kApplicationId) return damaged("it is not a spool of the upload plugin");
  format_ = number(60);
  if (format_ < kFormatWithoutTime || format_ > kFormat)
    return damaged("it has a format that this version does not know");
  // Opening it would make files of a write-ahead log, and leaving that mode write to it.
  if (header[18] != 1 || header[19] != 1) return damaged("it does not have a rollback journal");
  return {};
}

// As a database that can't change: without locks, and whatever its journal says.
Status SqliteStore::glance() {
  auto file = OwnFile::open(path_, kTheSpool);
  if (!file.ok()) return file.status();
  file_ = std::move(file.value());
  if (!file_.there()) return {Kind::kSpool, "the spool " + path_ + " is not there"};
  if (Status status = read_header(); !status.ok()) return status;
  std::string uri = "file:";
  for (const char c : path_)
    uri += strchr("%?#", c) == nullptr ? std::string(1, c) : format("%%%02x", c);
  uri += "?immutable=1";
  sqlite3* database = nullptr;
  const int code =
      sqlite3_open_v2(uri.c_str(), &database,
                      SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, nullptr);
  database_.reset(database);
  if (code != SQLITE_OK) return failure("opened");
  if (Status status = execute("PRAGMA trusted_schema = OFF"); !status.ok()) return status;
  if (Status status = check_schema(); !status.ok()) return status;
  return load_about();
}

// A transaction that was not finished is rolled back by whatever reads first, which
// writes. Until then the file need not make sense, and then nothing is said of it here.
// But where it does say which disk it is of, that is so: transactions don't change it, and
// its row is so short that it lies in one sector.
Status SqliteStore::look_before_rollback(const Options& options) {
  SqliteStore before(options);
  return before.glance().ok() ? before.check_disk(options) : Status();
}

// A disk that is full may have room by the time that the first change comes.
Status SqliteStore::open_journal() {
  const Status status = execute(
      "BEGIN IMMEDIATE; UPDATE spool SET count = count + 1;"
      "UPDATE spool SET count = count - 1; COMMIT");
  if (status.ok() || status.kind() != Kind::kNoSpace) return status;
  // It may have been rolled back already.
  return sqlite3_get_autocommit(database_.get()) != 0 ? Status() : execute("ROLLBACK");
}

// Under another name, then moved: no file by this name is ever half made.
Status SqliteStore::create(const Options& options) const {
  SqliteStore fresh({options.path + ".new", {}, 0, nullptr});
  const auto remove = [&] {
    ::unlink(fresh.path_.c_str());
    ::unlink(journal_of(fresh.path_).c_str());
  };
  remove();
  // For no other user; the journal gets the same mode. SQLite is never to make one.
  constexpr int kNew = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  fresh.file_ = OwnFile(::open(fresh.path_.c_str(), kNew, 0600));
  if (!fresh.file_.there())
    return {Kind::kSpool, "the spool " + options.path + " can't be made: " + strerror(errno)};
  Status status = fresh.connect();
  if (status.ok())
    status = fresh.execute(format("PRAGMA application_id = %d; PRAGMA user_version = %d; BEGIN;",
                                  kApplicationId, kFormat)
                               .c_str());
  for (const std::string& table : schema_of(kFormat))
    if (status.ok()) status = fresh.execute(table.c_str());
  if (status.ok()) {
    auto made = fresh.prepare("INSERT INTO spool VALUES (?, ?, 0, zeroblob(32), 0, ?)");
    if (made.ok()) {
      sqlite3_stmt* const statement = made.value().get();
      sqlite3_bind_text(statement, 1, options.url.c_str(), -1, SQLITE_STATIC);
      sqlite3_bind_int64(statement, 2, static_cast<int64_t>(options.size));
      sqlite3_bind_text(statement, 3, options.disk.c_str(), -1, SQLITE_STATIC);
      if (sqlite3_step(statement) != SQLITE_DONE) status = fresh.failure("made");
    } else {
      status = made.status();
    }
  }
  if (status.ok()) status = fresh.execute("COMMIT");
  fresh.database_.reset();
  const std::string directory = std::filesystem::path(options.path).parent_path();
  if (status.ok() && ::rename(fresh.path_.c_str(), options.path.c_str()) != 0)
    status = {Kind::kSpool, "the spool " + options.path + " can't be made: " + strerror(errno)};
  const OwnFile opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (status.ok() && (!opened.there() || fsync(opened.fd()) != 0))
    status = {Kind::kSpool,
              "the directory " + directory + " can't be synced: " + strerror(errno)};
  remove();
  return status;
}

Status SqliteStore::connect() {
  sqlite3* database = nullptr;
  const int code = sqlite3_open_v2(
      path_.c_str(), &database,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
  database_.reset(database);
  if (code != SQLITE_OK) return failure("opened");
  // The name leads where it did, so what SQLite has opened is what was checked.
  if (Status status = file_.check_is_at(path_, kTheSpool); !status.ok()) return status;
  // None of this writes to a database that has a rollback journal (read_header()).
  // The journal is made durable before the database is touched, and the
  // database before the journal is emptied, which is the commit. What is dropped is not
  // overwritten, which would write each of its pages twice, with the journal.
  return execute(format("PRAGMA page_size = %d; PRAGMA locking_mode = EXCLUSIVE;"
                        "PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = FULL;"
                        "PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;"
                        "PRAGMA temp_store = MEMORY; PRAGMA secure_delete = OFF;",
                        kPageSize)
                     .c_str());
}

// Is it one of ours, and of this volume? Takes the locks.
Status SqliteStore::load(const Options& options) {
  const auto number = [&](const char* sql) -> std::optional<int64_t> {
    auto statement = prepare(sql);
    if (!statement.ok() || sqlite3_step(statement.value().get()) != SQLITE_ROW)
      return std::nullopt;
    return sqlite3_column_int64(statement.value().get(), 0);
  };
  if (Status status = execute("BEGIN IMMEDIATE; COMMIT"); !status.ok()) return status;
  if (number("PRAGMA application_id") != kApplicationId)
    return damaged("it is not a spool of the upload plugin");
  if (number("PRAGMA user_version") != format_)
    return damaged("it has a format that this version does not know");
  if (Status status = check_schema(); !status.ok()) return status;
  if (Status status = load_about(); !status.ok()) return status;
  if (Status status = check_disk(options); !status.ok()) return status;
  if (Status status = prepare_all(); !status.ok()) return status;
  return options.size == 0 || about_.url == options.url ? Status() : set_url(options.url);
}

Status SqliteStore::check_schema() {
  auto prepared = prepare("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid");
  if (!prepared.ok()) return damaged(prepared.status().text());
  sqlite3_stmt* const statement = prepared.value().get();
  const std::vector<std::string> tables = schema_of(format_);
  for (const std::string& table : tables) {
    const std::string name = table.substr(13, table.find(' ', 13) - 13);
    if (sqlite3_step(statement) != SQLITE_ROW || column_text(statement, 0) != "table" ||
        column_text(statement, 1) != name || column_text(statement, 2) != name ||
        column_text(statement, 3) != table)
      return damaged("it does not have the tables of a spool");
  }
  if (sqlite3_step(statement) != SQLITE_DONE)
    return damaged("it has more than the tables of a spool");
  return {};
}

// Is it of this disk?
Status SqliteStore::check_disk(const Options& options) const {
  if (format_ >= kFormat && !options.disk.empty() && disk_ != options.disk)
    return {Kind::kSpool, "the spool " + path_ + " is of another disk, " + disk_ +
                              ", than its "
                              "name says, " +
                              options.disk +
                              ": give it its own name again, or "
                              "move it away"};
  if (options.size != 0 && about_.size != options.size)
    return {Kind::kInvalid,
            format("the spool %s is of a disk of %" PRIu64 " bytes, but this one has %" PRIu64,
                   path_.c_str(), about_.size, options.size)};
  return {};
}

Status SqliteStore::load_about() {
  const char* const changed_at = format_ >= kFormatWithoutDisk ? "changed_at" : "0";
  const char* const disk = format_ >= kFormat ? "disk" : "''";
  auto about = prepare(
      format("SELECT size, count, digest, url, %s, %s FROM spool", changed_at, disk).c_str());
  if (!about.ok()) return damaged(about.status().text());
  sqlite3_stmt* const statement = about.value().get();
  if (sqlite3_step(statement) != SQLITE_ROW || !is_digest(statement, 2) ||
      !is_number(statement, 0) || sqlite3_column_int64(statement, 0) < 0)
    return damaged("it does not say what is in it");
  about_ = {column_text(statement, 3), column_u64(statement, 0),
            sqlite3_column_int64(statement, 4)};
  disk_ = column_text(statement, 5);
  count_ = column_u64(statement, 1);
  memcpy(digest_.data(), sqlite3_column_blob(statement, 2), digest_.size());
  if (sqlite3_step(statement) != SQLITE_DONE) return damaged("it says twice what is in it");
  struct stat file = {};
  if (format_ == kFormatWithoutTime && fstat(file_.fd(), &file) == 0)
    about_.changed_at = file.st_mtim.tv_sec;
  return {};
}

// It is for people: a full disk is no reason to fail. In format 1 it would
// change the file's time, which is all that tells when changes were added.
Status SqliteStore::set_url(const std::string& url) {
  if (format_ == kFormatWithoutTime) return {};
  const FileSizeLimitFails limit_fails;
  auto prepared = prepare("UPDATE spool SET url = ?");
  if (!prepared.ok()) return prepared.status();
  sqlite3_stmt* const statement = prepared.value().get();
  sqlite3_bind_text(statement, 1, url.c_str(), -1, SQLITE_STATIC);
  if (sqlite3_step(statement) != SQLITE_DONE) {
    const Status status = failure("changed");
    return status.kind() == Kind::kNoSpace ? Status() : status;
  }
  about_.url = url;
  return {};
}

Status SqliteStore::prepare_all() {
  const struct {
    Statement& statement;
    const char* sql;
  } statements[] = {{insert_, "INSERT INTO change VALUES (?, ?, ?, ?, ?, ?, ?, ?)"},
                    {delete_, "DELETE FROM change WHERE id = ? RETURNING digest"},
                    {update_, format_ == kFormatWithoutTime
                                  ? "UPDATE spool SET count = ?, digest = ?"
                                  : "UPDATE spool SET count = ?, digest = ?, changed_at = ?"},
                    {select_,
                     "SELECT id, offset, length, sequence, zero, not_before, digest, data"
                     " FROM change WHERE id = ?"}};
  for (const auto& [target, sql] : statements) {
    auto prepared = prepare(sql);
    if (!prepared.ok()) return damaged(prepared.status().text());
    target = std::move(prepared.value());
  }
  return {};
}

// The digest only says that a row is as it was written, by whoever wrote it. A row that
// no disk of this size can have would be sent as a request.
Status SqliteStore::check_row(sqlite3_stmt* statement) const {
  for (int column = 0; column < 6; ++column)
    if (!is_number(statement, column)) return damaged("a change has a field that is no number");
  const SpoolRow row = row_of(statement);
  const auto [offset, length] = row.range;
  if (length == 0 || offset > about_.size || length > about_.size - offset)
    return damaged(format("a change of %" PRId64 " bytes at offset %" PRId64
                          " is not within the disk of %" PRIu64 " bytes",
                          static_cast<int64_t>(length), static_cast<int64_t>(offset),
                          about_.size));
  const int64_t zero = sqlite3_column_int64(statement, 4);
  if ((zero != 0 && zero != 1) || (sqlite3_column_int(statement, 7) != 0) != (zero == 1))
    return damaged(format("the change of %" PRIu64 " bytes at offset %" PRIu64
                          " is neither data nor zeroes",
                          length, offset));
  return {};
}

// Do the rows add up to what the file says? This reads no content: the test for NULL has to be
// one that SQLite makes without it.
Result<std::vector<SpoolRow>> SqliteStore::rows() {
  auto prepared = prepare(
      "SELECT id, offset, length, sequence, zero, not_before, digest, typeof(data) = 'null' FROM "
      "change"
      " ORDER BY sequence, id");
  if (!prepared.ok()) return damaged(prepared.status().text());
  sqlite3_stmt* const statement = prepared.value().get();
  std::vector<SpoolRow> rows;
  Digest sum = {};
  int code = SQLITE_OK;
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
    if (Status status = check_row(statement); !status.ok()) return status;
    rows.push_back(row_of(statement));
    if (!is_digest(statement, 6)) return damaged("a change has no digest");
    const auto* const digest = static_cast<const std::byte*>(sqlite3_column_blob(statement, 6));
    for (size_t i = 0; i < sum.size(); ++i) sum[i] ^= digest[i];
  }
  if (code != SQLITE_DONE) return damaged(sqlite3_errmsg(database_.get()));
  if (rows.size() != count_ || sum != digest_) return damaged("changes are missing");
  return rows;
}

Status SqliteStore::verify() {
  auto checked = prepare("PRAGMA integrity_check(1)");
  if (!checked.ok()) return damaged(checked.status().text());
  sqlite3_stmt* const statement = checked.value().get();
  if (sqlite3_step(statement) != SQLITE_ROW) return damaged(sqlite3_errmsg(database_.get()));
  const auto* const answer = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
  if (answer == nullptr || strcmp(answer, "ok") != 0)
    return damaged(answer == nullptr ? "it can't be read" : answer);
  checked.value().reset();
  auto all = rows();
  if (!all.ok()) return all.status();
  for (const SpoolRow& row : all.value()) {
    auto there = read(row.id, 0, nullptr, 0);
    if (!there.ok()) return there.status();
    if (!there.value()) return damaged("a change is missing");
  }
  return {};
}

// What is asked for is written when the file is made, and at starts.
std::string SqliteStore::url_in(const std::string& path) {
  SqliteStore store({path, {}, 0, nullptr});
  return store.glance().ok() ? store.about_.url : "";
}

// --- Changes --------------------------------------------------------------

// Runs `body`, which returns a Status, as one transaction.
template <typename Body>
Status SqliteStore::transact(Body body) {
  if (!failed_.ok()) return failed_;
  const FileSizeLimitFails limit_fails;
  const uint64_t count = count_;
  const Digest digest = digest_;
  const int64_t changed_at = about_.changed_at;
  Status status = execute("BEGIN IMMEDIATE");
  if (status.ok()) status = body();
  if (status.ok()) {
    sqlite3_reset(update_.get());
    sqlite3_bind_int64(update_.get(), 1, static_cast<int64_t>(count_));
    sqlite3_bind_blob(update_.get(), 2, digest_.data(), static_cast<int>(digest_.size()),
                      SQLITE_TRANSIENT);
    if (format_ != kFormatWithoutTime) sqlite3_bind_int64(update_.get(), 3, about_.changed_at);
    if (sqlite3_step(update_.get()) != SQLITE_DONE) status = failure("changed");
    sqlite3_reset(update_.get());
  }
  if (status.ok() &&
      sqlite3_exec(database_.get(), "COMMIT", nullptr, nullptr, nullptr) != SQLITE_OK)
    status = failure("synced");
  // What is durable in a file without a name is lost all the same.
  if (status.ok()) return check();
  count_ = count;
  digest_ = digest;
  about_.changed_at = changed_at;
  // Some errors have rolled it back already.
  const bool open = sqlite3_get_autocommit(database_.get()) == 0;
  const bool clean = !open || execute("ROLLBACK").ok();
  // After a failed write or sync nobody knows what is on the disk; only
  // a disk that is full is known to have changed nothing.
  if (status.kind() != Kind::kNoSpace || !clean) failed_ = status;
  return status;
}

// The journal too: without it a transaction that is torn can't be taken back.
Status SqliteStore::check() {
  if (failed_.ok()) failed_ = file_.check_is_at(path_, kTheSpool);
  if (failed_.ok() && journal_.there())
    failed_ = journal_.check_is_at(journal_of(path_), kTheJournal);
  return failed_;
}

Status SqliteStore::append(std::span<const SpoolContent> contents) {
  uint64_t bytes = kReserve;
  for (const SpoolContent& content : contents)
    bytes += content.data == nullptr ? 0 : content.row.range.length;
  struct statvfs about = {};
  // Some file systems in memory don't tell.
  if (statvfs(path_.c_str(), &about) == 0 && about.f_blocks != 0 &&
      about.f_bavail * about.f_frsize < bytes)
    return {Kind::kNoSpace, "the spool " + path_ + " could not be written: the disk is full"};
  return transact([&]() -> Status {
    if (clock_ != nullptr)
      about_.changed_at = std::chrono::system_clock::to_time_t(clock_->wall_now());
    for (const SpoolContent& content : contents)
      if (Status status = add_row(content); !status.ok()) return status;
    return {};
  });
}

Status SqliteStore::drop(std::span<const uint64_t> ids) {
  return transact([&]() -> Status {
    for (const uint64_t id : ids)
      if (Status status = drop_row(id); !status.ok()) return status;
    return {};
  });
}

void SqliteStore::add_up(const void* digest) {
  const auto* const bytes = static_cast<const std::byte*>(digest);
  for (size_t i = 0; i < digest_.size(); ++i) digest_[i] ^= bytes[i];
}

Status SqliteStore::add_row(const SpoolContent& content) {
  const SpoolRow& row = content.row;
  const Digest digest = digest_of(row, content.data);
  sqlite3_stmt* const s = insert_.get();
  sqlite3_bind_int64(s, 1, static_cast<int64_t>(row.id));
  sqlite3_bind_int64(s, 2, static_cast<int64_t>(row.range.offset));
  sqlite3_bind_int64(s, 3, static_cast<int64_t>(row.range.length));
  sqlite3_bind_int64(s, 4, static_cast<int64_t>(row.sequence));
  sqlite3_bind_int(s, 5, row.zero ? 1 : 0);
  sqlite3_bind_int64(s, 6, row.not_before);
  sqlite3_bind_blob(s, 7, digest.data(), static_cast<int>(digest.size()), SQLITE_STATIC);
  sqlite3_bind_blob64(s, 8, content.data, content.data == nullptr ? 0 : row.range.length,
                      SQLITE_STATIC);
  const Status status = sqlite3_step(s) == SQLITE_DONE ? Status() : failure("written");
  sqlite3_reset(s);
  sqlite3_clear_bindings(s);  // the data is the caller's
  if (!status.ok()) return status;
  add_up(digest.data());
  ++count_;
  return {};
}

Status SqliteStore::drop_row(uint64_t id) {
  sqlite3_stmt* const s = delete_.get();
  sqlite3_bind_int64(s, 1, static_cast<int64_t>(id));
  Status status;
  switch (sqlite3_step(s)) {
    case SQLITE_ROW:
      if (!is_digest(s, 0)) {
        status = damaged("a change has no digest");
      } else {
        add_up(sqlite3_column_blob(s, 0));
        --count_;
        if (sqlite3_step(s) != SQLITE_DONE) status = failure("changed");
      }
      break;
    case SQLITE_DONE: status = damaged("a change is missing"); break;
    default: status = failure("changed"); break;
  }
  sqlite3_reset(s);
  return status;
}

Result<bool> SqliteStore::read(uint64_t id, uint64_t skip, void* buffer, uint64_t length) {
  if (!failed_.ok()) return failed_;
  sqlite3_stmt* const s = select_.get();
  sqlite3_reset(s);
  sqlite3_bind_int64(s, 1, static_cast<int64_t>(id));
  const int code = sqlite3_step(s);
  if (code == SQLITE_DONE) {
    sqlite3_reset(s);
    return false;
  }
  Status status;
  if (code != SQLITE_ROW) {
    status = damaged(sqlite3_errmsg(database_.get()));
  } else {
    const SpoolRow row = row_of(s);
    const void* const data = sqlite3_column_blob(s, 7);
    const uint64_t bytes = static_cast<uint64_t>(sqlite3_column_bytes(s, 7));
    const Digest digest = bytes == (row.zero ? 0 : row.range.length)
                              ? digest_of(row, row.zero ? nullptr : data)
                              : Digest{};
    if (!is_digest(s, 6) || memcmp(sqlite3_column_blob(s, 6), digest.data(), digest.size()) != 0)
      status = damaged(format("the change of %" PRIu64 " bytes at offset %" PRIu64
                              " is not as it was written",
                              row.range.length, row.range.offset));
    else if (length > 0 && (skip > bytes || length > bytes - skip))
      status = damaged("a change is too short");
    else if (length > 0)
      memcpy(buffer, static_cast<const char*>(data) + skip, length);
  }
  sqlite3_reset(s);
  if (!status.ok()) {
    failed_ = status;
    return status;
  }
  return true;
}

Status SqliteStore::shrink() {
  if (!failed_.ok()) return failed_;
  const FileSizeLimitFails limit_fails;
  Status status = execute("VACUUM");
  // A failure costs space on the disk and nothing else.
  return status.kind() == Kind::kNoSpace ? Status() : status;
}

}  // namespace upload::journal
