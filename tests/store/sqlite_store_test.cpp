// SPDX-License-Identifier: BSD-3-Clause
//
// The spool on disk: what was appended is there again, or there is an error;
// whatever happened to the process, the disk or the file.

#include "journal/sqlite_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>

#include "base/format.h"
#include "base/log.h"
#include "catch.h"
#include "faulty_vfs.h"
#include "fixture/temporary_directory.h"
#include "journal/spool_file.h"

using upload::ByteRange;
using upload::Kind;
using upload::Status;
using upload::fixture::TemporaryDirectory;
using upload::journal::SpoolContent;
using upload::journal::SpoolFile;
using upload::journal::SpoolName;
using upload::journal::SpoolRow;
using upload::journal::SqliteStore;
using upload::testing::FaultyVfs;
using Fault = FaultyVfs::Fault;
namespace fs = std::filesystem;

namespace {

constexpr uint64_t kSize = 1 << 30;

std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void spill(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  // Whatever the umask is.
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
}

// Row `id`: of a length, and with data, that follow from its number.
struct Row {
  explicit Row(uint64_t id, uint64_t length = 0) {
    content.row.id = id;
    content.row.sequence = 1000 + id;
    content.row.range = {id * 4096, length != 0 ? length : 512 + id * 3331 % 40000};
    content.row.zero = id % 5 == 0;
    if (content.row.zero) return;
    data.resize(content.row.range.length);
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 + id * 31);
    content.data = data.data();
  }
  Row(const Row&) = delete;
  std::string data;
  SpoolContent content;
};

Status append(SqliteStore& store, uint64_t first, uint64_t count = 1, uint64_t length = 0) {
  std::vector<std::unique_ptr<Row>> rows;
  std::vector<SpoolContent> contents;
  for (uint64_t id = first; id < first + count; ++id) {
    rows.push_back(std::make_unique<Row>(id, length));
    contents.push_back(rows.back()->content);
  }
  return store.append(contents);
}

// Says the time that it was told.
class WallClock final : public upload::Clock {
 public:
  upload::TimePoint now() const override { return steady_.now(); }
  upload::WallTime wall_now() const override {
    return std::chrono::system_clock::from_time_t(time);
  }
  upload::BootTime boot_now() const override { return steady_.boot_now(); }
  void wait_until(upload::CondVar& condition, upload::Mutex& mutex,
                  upload::TimePoint when) override REQUIRES(mutex) {
    steady_.wait_until(condition, mutex, when);
  }
  time_t time = 1'700'000'000;

 private:
  upload::SteadyClock steady_;
};

WallClock wall_clock;

upload::Result<std::unique_ptr<SpoolFile>> lock(const std::string& directory,
                                                const SpoolName& name) {
  return SpoolFile::lock(directory, name, wall_clock);
}

struct Fixture {
  upload::Result<std::unique_ptr<SqliteStore>> open(bool verify = true, uint64_t size = kSize) {
    return SqliteStore::open({path, "https://h/images/...", size, &clock}, verify);
  }
  std::unique_ptr<SqliteStore> store() {
    auto result = open();
    INFO(result.status().text());
    REQUIRE(result.ok());
    return std::move(result.value());
  }

  WallClock clock;
  TemporaryDirectory directory;
  std::string path = directory.path() + "/s.spool";
};

std::vector<uint64_t> ids_of(SqliteStore& store) {
  auto rows = store.rows();
  INFO(rows.status().text());
  REQUIRE(rows.ok());
  std::vector<uint64_t> ids;
  for (const SpoolRow& row : rows.value()) ids.push_back(row.id);
  return ids;
}

// Every row there is has what was written.
bool all_right(SqliteStore& store) {
  auto rows = store.rows();
  if (!rows.ok()) return false;
  for (const SpoolRow& row : rows.value()) {
    const Row expected(row.id);
    if (row.range != expected.content.row.range || row.zero != expected.content.row.zero ||
        row.sequence != expected.content.row.sequence)
      return false;
    std::string data(expected.data.size(), '?');
    const auto there = store.read(row.id, 0, data.data(), data.size());
    if (!there.ok() || !there.value() || data != expected.data) return false;
  }
  return true;
}

using Ids = std::vector<uint64_t>;

}  // namespace

TEST_CASE("what was appended is there again, in its order", "[store]") {
  Fixture f;
  REQUIRE(append(*f.store(), 3).ok());
  REQUIRE(append(*f.store(), 1, 2).ok());
  auto store = f.store();
  CHECK(ids_of(*store) == Ids{1, 2, 3});
  CHECK(all_right(*store));
  CHECK(!store->had_torn_tail());
  CHECK(!store->empty());
}

TEST_CASE("a part of a row can be read, and a row that is gone says so", "[store]") {
  Fixture f;
  auto store = f.store();
  REQUIRE(append(*store, 1).ok());
  const Row row(1);
  std::string part(100, '?');
  CHECK(store->read(1, 50, part.data(), part.size()).value());
  CHECK(part == row.data.substr(50, 100));
  const Ids ids = {1};
  REQUIRE(store->drop(ids).ok());
  CHECK(!store->read(1, 50, part.data(), part.size()).value());
  CHECK(store->empty());
}

TEST_CASE("dropped rows stay dropped, and their space is given back", "[store]") {
  Fixture f;
  {
    auto store = f.store();
    REQUIRE(append(*store, 1, 20, 200000).ok());
    const auto full = fs::file_size(f.path);
    CHECK(full > 3000000);
    Ids ids;
    for (uint64_t id = 1; id <= 19; ++id) ids.push_back(id);
    REQUIRE(store->drop(ids).ok());
    REQUIRE(store->shrink().ok());
    CHECK(fs::file_size(f.path) < full / 5);
  }
  CHECK(ids_of(*f.store()) == Ids{20});
}

TEST_CASE("what is dropped is not written again, to be overwritten or to be taken back",
          "[store]") {
  Fixture f;
  auto store = f.store();
  REQUIRE(append(*store, 2).ok());
  Row row(1, 100'000);
  row.data.assign(row.data.size(), '!');
  row.content.data = row.data.data();
  REQUIRE(store->append({&row.content, 1}).ok());
  REQUIRE(store->drop(std::vector<uint64_t>{1}).ok());
  const std::string some(1000, '!');
  CHECK(slurp(f.path).find(some) != std::string::npos);
  CHECK(store->shrink().ok());
  CHECK(slurp(f.path).find(some) == std::string::npos);
}

TEST_CASE("the file is for no other user", "[store]") {
  Fixture f;
  auto store = f.store();
  REQUIRE(append(*store, 1).ok());
  struct stat about = {};
  REQUIRE(stat(f.path.c_str(), &about) == 0);
  CHECK((about.st_mode & 0777) == 0600);
}

TEST_CASE("the file is not much larger than what is in it", "[store]") {
  for (const uint64_t length : {512, 4096, 5600, 8192, 65536, 262144}) {
    Fixture f;
    auto store = f.store();
    const uint64_t count = (8 << 20) / length;
    const uint64_t step = std::min<uint64_t>(count, 256);
    for (uint64_t id = 0; id < count; id += step)
      REQUIRE(append(*store, id + 1, step, length).ok());
    uint64_t data = 0;
    // As spool-size= counts.
    for (uint64_t id = 1; id <= count / step * step; ++id)
      data += 512 + (id % 5 == 0 ? 0 : length);
    INFO(length << ": " << fs::file_size(f.path) << " for " << data);
    CHECK(static_cast<double>(fs::file_size(f.path)) < 1.5 * static_cast<double>(data));
  }
}

TEST_CASE("a file of another disk, or of something else, is refused and kept", "[store]") {
  Fixture f;
  REQUIRE(append(*f.store(), 1).ok());
  auto other = f.open(true, kSize * 2);
  CHECK(!other.ok());
  CHECK(other.status().text() ==
        "the spool " + f.path + " is of a disk of 1073741824 bytes, but this one has 2147483648");
  for (const std::string& content : {std::string(), std::string("x"), std::string(100000, 'x')}) {
    spill(f.path, content);
    const auto opened = f.open();
    CHECK(!opened.ok());
    CHECK(opened.status().text().find(" is damaged: ") != std::string::npos);
    CHECK(opened.status().text().find("it is left as it is, to be looked into") !=
          std::string::npos);
    CHECK(slurp(f.path) == content);
  }
  fs::remove(f.path);
  fs::create_directory(f.path);
  CHECK(f.open().status().text() == "the spool " + f.path + " is not a file");
}

// --- Crashes --------------------------------------------------------------

TEST_CASE("after a crash at any point all of a change is there or nothing of it", "[store]") {
  FaultyVfs vfs;
  bool done = false;
  int torn = 0;
  for (uint64_t point = 0; !done; ++point) {
    REQUIRE(point < 1000);
    Fixture f;
    auto store = f.store();
    REQUIRE(append(*store, 1, 3).ok());
    vfs.set(Fault::kCrash, point);
    const Ids drop = {1};
    const bool appended = append(*store, 4, 2, 100000).ok();
    const bool dropped = appended && store->drop(drop).ok();
    done = dropped;
    store.reset();
    vfs.set(Fault::kNone);
    store = f.store();
    torn += store->had_torn_tail() ? 1 : 0;
    const Ids ids = ids_of(*store);
    INFO("crash at operation " << point);
    if (dropped)
      CHECK(ids == Ids{2, 3, 4, 5});
    else if (appended)
      CHECK((ids == Ids{1, 2, 3, 4, 5} || ids == Ids{2, 3, 4, 5}));
    else
      CHECK((ids == Ids{1, 2, 3} || ids == Ids{1, 2, 3, 4, 5}));
    // What was read is as it was written; verified by opening.
    CHECK(append(*store, 6).ok());
  }
  CHECK(torn > 5);
}

TEST_CASE("kill -9 at any moment loses nothing that was appended", "[store]") {
  for (int round = 0; round < 10; ++round) {
    Fixture f;
    f.store();
    int pipes[2];
    REQUIRE(pipe(pipes) == 0);
    const pid_t child = fork();
    if (child == 0) {
      auto store = f.open();
      for (uint64_t id = 1; store.ok() && append(*store.value(), id).ok(); ++id)
        if (write(pipes[1], &id, sizeof id) != sizeof id) break;
      _exit(1);
    }
    close(pipes[1]);
    uint64_t last = 0;
    // A while after the first, different in each round.
    for (int i = 0; i < 1 + round * 7; ++i)
      REQUIRE(read(pipes[0], &last, sizeof last) == sizeof last);
    kill(child, SIGKILL);
    while (read(pipes[0], &last, sizeof last) == sizeof last) {
    }
    close(pipes[0]);
    waitpid(child, nullptr, 0);
    auto store = f.store();
    const Ids ids = ids_of(*store);
    CHECK(ids.size() >= last);
    CHECK(ids.size() <= last + 1);
    CHECK(all_right(*store));
  }
}

// --- Damage ---------------------------------------------------------------

namespace {

// Opens what is there: an error, or all rows as they were written.
bool error_or_right(Fixture& f, const std::optional<Ids>& ids, int& errors) {
  auto opened = f.open();
  if (!opened.ok()) {
    ++errors;
    return opened.status().kind() == Kind::kSpool &&
           opened.status().text().find(f.path) != std::string::npos;
  }
  return all_right(*opened.value()) && (!ids || ids_of(*opened.value()) == *ids);
}

}  // namespace

TEST_CASE("bytes that flip anywhere are noticed, or do no harm", "[store]") {
  Fixture f;
  REQUIRE(append(*f.store(), 1, 12).ok());
  const Ids ids = ids_of(*f.store());
  const std::string good = slurp(f.path);
  int errors = 0;
  int tried = 0;
  // The first page densely: it holds the header and the schema.
  for (size_t at = 0; at < good.size(); at += at < 200 ? 1 : at < 4096 ? 11 : 227) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
    spill(f.path, bad);
    INFO("byte " << at);
    CHECK(error_or_right(f, ids, errors));
    ++tried;
  }
  CHECK(tried > 1000);
  // Most bytes are content.
  CHECK(errors > tried / 2);
}

TEST_CASE("a file that is cut off anywhere is noticed", "[store]") {
  Fixture f;
  REQUIRE(append(*f.store(), 1, 12).ok());
  const std::string good = slurp(f.path);
  int errors = 0;
  int tried = 0;
  for (size_t size = 0; size < good.size(); size += 509, ++tried) {
    spill(f.path, good.substr(0, size));
    INFO("cut to " << size << " of " << good.size());
    CHECK(error_or_right(f, Ids(), errors));
    CHECK(fs::file_size(f.path) == size);  // kept
  }
  CHECK(errors == tried);
}

TEST_CASE("a page that was never written, or is an older one, is noticed", "[store]") {
  Fixture f;
  REQUIRE(append(*f.store(), 1, 6).ok());
  const std::string before = slurp(f.path);
  REQUIRE(append(*f.store(), 7, 6).ok());
  const Ids ids = ids_of(*f.store());
  const std::string after = slurp(f.path);
  constexpr size_t kPage = 4096;
  int errors = 0;
  for (size_t at = 0; at < after.size(); at += kPage) {
    std::string zero = after;
    zero.replace(at, kPage, kPage, '\0');
    std::string stale = after;
    if (at < before.size()) stale.replace(at, kPage, before, at, kPage);
    for (const std::string& bad : {zero, stale}) {
      spill(f.path, bad);
      INFO("page at " << at);
      CHECK(error_or_right(f, ids, errors));
    }
  }
  CHECK(errors > 5);
}

TEST_CASE("a journal that is damaged does no harm unnoticed", "[store]") {
  FaultyVfs vfs;
  Fixture f;
  const std::string journal = f.path + "-journal";
  // A crash in the middle of a transaction that changes what is there.
  auto store = f.store();
  REQUIRE(append(*store, 1, 8).ok());
  const Ids drop = {1, 2, 3, 4, 5, 6};
  uint64_t point = 0;
  std::string file, log;
  for (;; ++point) {
    const std::string before = slurp(f.path);
    vfs.set(Fault::kCrash, point);
    const bool done = store->drop(drop).ok();
    store.reset();
    vfs.set(Fault::kNone);
    REQUIRE(!done);
    file = slurp(f.path);
    log = slurp(journal);
    store = f.store();
    CHECK(ids_of(*store) == Ids{1, 2, 3, 4, 5, 6, 7, 8});
    if (!log.empty() && file != before) break;  // part of it is in the file
  }
  store.reset();
  int errors = 0;
  for (size_t at = 0; at < log.size(); at += at < 64 ? 1 : 251) {
    std::string bad = log;
    bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
    for (const std::string& j : {bad, log.substr(0, at)}) {
      spill(f.path, file);
      spill(journal, j);
      INFO("byte " << at << " of the journal");
      CHECK(error_or_right(f, std::nullopt, errors));
    }
  }
  CHECK(errors > 10);
}

// --- Disks ----------------------------------------------------------------

TEST_CASE("a disk that is full changes nothing, and can be used again", "[store]") {
  FaultyVfs vfs;
  for (uint64_t point = 0; point < 40; point += 3) {
    Fixture f;
    auto store = f.store();
    REQUIRE(append(*store, 1).ok());
    vfs.set(Fault::kNoSpace, point);
    ++f.clock.time;
    const Status status = append(*store, 2, 1, 300000);
    vfs.set(Fault::kNone);
    INFO(status.text());
    if (!status.ok()) {
      CHECK(status.kind() == Kind::kNoSpace);
      CHECK(status.text().find("the spool " + f.path + " could not be ") == 0);
      CHECK(status.text().find("full") != std::string::npos);
      CHECK(ids_of(*store) == Ids{1});
      CHECK(store->about().changed_at == f.clock.time - 1);
    }
    CHECK(append(*store, 3).ok());
    store.reset();
    CHECK(ids_of(*f.store()) == (status.ok() ? Ids{1, 2, 3} : Ids{1, 3}));
  }
}

TEST_CASE("a limit on the size of files is a disk that is full, and ends nothing", "[store]") {
  Fixture f;
  rlimit before = {};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit tight = before;
  const auto limit_to = [&](rlim_t bytes) {
    tight.rlim_cur = bytes;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &tight) == 0);
  };
  limit_to(0);
  const Status none = f.open().status();
  CHECK(none.kind() == Kind::kNoSpace);
  limit_to(before.rlim_cur);
  auto store = f.store();
  REQUIRE(append(*store, 1, 10).ok());
  limit_to(1 << 20);
  uint64_t last = 10;
  Status status;
  while (status.ok() && last < 200) status = append(*store, ++last);
  CHECK(status.kind() == Kind::kNoSpace);
  CHECK(ids_of(*store).size() == last - 1);
  CHECK(all_right(*store));
  const uint64_t first[] = {1, 2};
  CHECK(store->drop(first).ok());
  limit_to(before.rlim_cur);
  CHECK(append(*store, last).ok());
  store.reset();
  CHECK(all_right(*f.store()));
  sigset_t pending;
  REQUIRE(sigpending(&pending) == 0);
  CHECK(sigismember(&pending, SIGXFSZ) == 0);
}

TEST_CASE("on a full disk no store is made, and nothing is left of it", "[store]") {
  FaultyVfs vfs;
  for (const Fault fault : {Fault::kNoSpace, Fault::kSyncError}) {
    Fixture f;
    vfs.set(fault);
    const auto opened = f.open();
    vfs.set(Fault::kNone);
    CHECK(!opened.ok());
    CHECK(opened.status().text().find(f.path) != std::string::npos);
    CHECK(fs::is_empty(f.directory.path()));
    CHECK(append(*f.store(), 1).ok());
  }
}

TEST_CASE("on a full disk a store that is there is opened", "[store]") {
  FaultyVfs vfs;
  for (uint64_t point = 0; point < 6; ++point) {
    Fixture f;
    REQUIRE(append(*f.store(), 1, 3).ok());
    vfs.set(Fault::kNoSpace, point);
    auto store = f.open(false);
    INFO(store.status().text());
    REQUIRE(store.ok());
    CHECK(ids_of(*store.value()) == Ids{1, 2, 3});
    vfs.set(Fault::kNone);
    const Ids first = {1};
    CHECK(store.value()->drop(first).ok());
    CHECK(append(*store.value(), 4).ok());
  }
}

TEST_CASE("a store that has the beginning of a journal beside it changes its name", "[store]") {
  Fixture f;
  const std::string directory = f.directory.path();
  auto place = lock(directory, {"a:1", "/disk"});
  REQUIRE(place.ok());
  const std::string path = place.value()->path();
  {
    auto store = place.value()->open("https://a:1/...", kSize, false);
    REQUIRE(store.ok());
    const Row row(1);
    REQUIRE(store.value()->append({&row.content, 1}).ok());
  }
  place.value().reset();
  // As of a process that was killed before it had synced the journal of a change.
  spill(path + "-journal", std::string(516, '\0'));
  auto other = lock(directory, {"b:1", "/disk"});
  REQUIRE(other.ok());
  auto places = other.value()->others();
  REQUIRE(places.ok());
  REQUIRE(places.value().size() == 1);
  REQUIRE(places.value()[0]->open("", 0, true).ok());
  REQUIRE(other.value()->take_over(*places.value()[0]).ok());
  auto store = other.value()->open("https://b:1/...", kSize, true);
  REQUIRE(store.ok());
  CHECK(store.value()->rows().value().size() == 1);
  CHECK(!fs::exists(path + "-journal"));
}

TEST_CASE("a store that is open needs no more descriptors", "[store]") {
  Fixture f;
  const auto store = f.store();
  struct rlimit before = {};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const struct rlimit none = {0, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  const Status appended = append(*store, 1, 5);
  const Ids first = {1};
  const Status dropped = store->drop(first);
  const Status shrunk = store->shrink();
  const Status again = append(*store, 6, 2);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(appended.text() == "");
  CHECK(dropped.text() == "");
  CHECK(shrunk.text() == "");
  CHECK(again.text() == "");
  CHECK(ids_of(*store) == Ids{2, 3, 4, 5, 6, 7});
}

TEST_CASE("after a sync that failed nothing more is taken", "[store]") {
  FaultyVfs vfs;
  for (uint64_t point = 0;; ++point) {
    Fixture f;
    auto store = f.store();
    REQUIRE(append(*store, 1).ok());
    vfs.set(Fault::kSyncError, point);
    const Status status = append(*store, 2);
    if (status.ok()) {
      CHECK(point > 3);
      vfs.set(Fault::kNone);
      break;
    }
    CHECK(status.kind() == Kind::kSpool);
    vfs.set(Fault::kNone);
    // Another sync might succeed without the data being there.
    CHECK(append(*store, 3).text() == status.text());
    const Ids drop = {1};
    CHECK(store->drop(drop).text() == status.text());
    CHECK(!store->empty());
    store.reset();
    store = f.store();
    const Ids ids = ids_of(*store);
    CHECK((ids == Ids{1} || ids == Ids{1, 2}));
    CHECK(all_right(*store));
  }
}

// --- The file and its lock ------------------------------------------------

TEST_CASE("two nbdkits can't have the spool of one disk, but those of two", "[store]") {
  TemporaryDirectory d;
  auto first = lock(d.path(), {"h:443", "/images/one"});
  REQUIRE(first.ok());
  const auto second = lock(d.path(), {"h:443", "/images/one"});
  CHECK(second.status().text() == "spool=" + d.path() + ": another nbdkit uses " +
                                      first.value()->path() + ", the spool of this disk");
  CHECK(lock(d.path(), {"h:443", "/images/two"}).ok());
  first.value().reset();
  CHECK(lock(d.path(), {"h:443", "/images/one"}).ok());
  CHECK(fs::is_empty(d.path()));
}

TEST_CASE("the lock of a process that was killed is free", "[store]") {
  TemporaryDirectory d;
  int pipes[2];
  REQUIRE(pipe(pipes) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto locked = lock(d.path(), {"h:443", "/v"});
    if (write(pipes[1], "x", 1) == 1) pause();
    _exit(1);
  }
  char x = 0;
  REQUIRE(read(pipes[0], &x, 1) == 1);
  CHECK(!lock(d.path(), {"h:443", "/v"}).ok());
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  CHECK(lock(d.path(), {"h:443", "/v"}).ok());
  close(pipes[0]);
  close(pipes[1]);
}

TEST_CASE("the lock is inherited through a fork, and the parent may go", "[store]") {
  TemporaryDirectory d;
  int ready[2];
  int hold[2];
  REQUIRE((pipe(ready) == 0 && pipe(hold) == 0));
  const pid_t parent = fork();
  if (parent == 0) {
    auto locked = lock(d.path(), {"h:443", "/v"});
    if (fork() == 0) {
      // As after nbdkit has gone to the background.
      char end = 0;
      close(hold[1]);
      if (write(ready[1], "x", 1) == 1 && read(hold[0], &end, 1) == 0) locked.value().reset();
      _exit(0);
    }
    _exit(0);
  }
  waitpid(parent, nullptr, 0);
  close(ready[1]);
  char x = 0;
  REQUIRE(read(ready[0], &x, 1) == 1);
  CHECK(!lock(d.path(), {"h:443", "/v"}).ok());
  close(hold[1]);
  CHECK(read(ready[0], &x, 1) == 0);  // the child has ended
  CHECK(lock(d.path(), {"h:443", "/v"}).ok());
  close(ready[0]);
  close(hold[0]);
}

TEST_CASE("a name tells nothing of the URL, and the directory must be there", "[store]") {
  TemporaryDirectory d;
  auto file = lock(d.path(), {"h:443", "/images/secret-ticket"});
  REQUIRE(file.ok());
  CHECK(file.value()->path().find("secret") == std::string::npos);
  CHECK(!std::filesystem::exists(file.value()->path()));
  CHECK(lock(d.path() + "/none", {"h:443", "/v"}).status().text() ==
        "spool=" + d.path() + "/none: files can't be made there: No such file or directory");
}

// --- Other hosts, and earlier releases ------------------------------------

namespace {

const SpoolName kHere = {"h:443", "/images/one"};
const SpoolName kThere = {"i:443", "/images/one"};
// What the first releases called the spool of kHere.
constexpr char kOldName[] = "/f717435c3a4bb2f3f6e0f9ab7e1180a8.spool";

// Leaves row 1 at a place.
void leave(upload::journal::SpoolPlace& place, const std::string& url) {
  auto store = place.open(url, kSize, true);
  INFO(store.status().text());
  REQUIRE(store.ok());
  const Row row(1);
  REQUIRE(store.value()->append({&row.content, 1}).ok());
}

void leave(const std::string& directory, const SpoolName& name) {
  auto place = lock(directory, name);
  REQUIRE(place.ok());
  leave(*place.value(), "https://" + name.host + "/images/...");
}

// Row 1 is at the place, and of that URL.
void check_left(upload::journal::SpoolPlace& place, const std::string& url) {
  auto store = place.open("", 0, true);
  INFO(store.status().text());
  REQUIRE(store.ok());
  CHECK(store.value()->about().url == url);
  auto rows = store.value()->rows();
  REQUIRE(rows.ok());
  REQUIRE(rows.value().size() == 1);
  CHECK(rows.value()[0].id == 1);
}

// As one of the first releases would have left it, under that name.
void make_old(const std::string& file, const std::string& old) {
  sqlite3* database = nullptr;
  REQUIRE(sqlite3_open(file.c_str(), &database) == SQLITE_OK);
  CHECK(
      sqlite3_exec(database,
                   "ALTER TABLE spool DROP COLUMN disk; ALTER TABLE spool DROP COLUMN changed_at;"
                   "PRAGMA user_version = 1",
                   nullptr, nullptr, nullptr) == SQLITE_OK);
  sqlite3_close(database);
  fs::rename(file, old);
}

}  // namespace

TEST_CASE("a store says when rows were last appended", "[store]") {
  Fixture f;
  auto store = f.store();
  CHECK(store->about().changed_at == 0);
  REQUIRE(append(*store, 1, 2).ok());
  CHECK(store->about().changed_at == 1'700'000'000);
  f.clock.time += 5;
  const Ids drop = {1};
  REQUIRE(store->drop(drop).ok());
  CHECK(store->about().changed_at == 1'700'000'000);
  store.reset();
  store = f.store();
  CHECK(store->about().changed_at == 1'700'000'000);
  REQUIRE(append(*store, 3).ok());
  store.reset();
  store = f.store();
  CHECK(store->about().changed_at == 1'700'000'005);
  CHECK(store->about().size == kSize);
}

TEST_CASE("a place knows those of the same path under other hosts", "[store]") {
  TemporaryDirectory d;
  leave(d.path(), kThere);
  leave(d.path(), {"h:443", "/images/two"});
  auto here = lock(d.path(), kHere);
  REQUIRE(here.ok());
  {
    const auto others = here.value()->others();
    REQUIRE(others.ok());
    REQUIRE(others.value().size() == 1);
    check_left(*others.value()[0], "https://i:443/images/...");
    // They are held.
    CHECK(!lock(d.path(), kThere).ok());
  }
  const auto there = lock(d.path(), kThere);
  REQUIRE(there.ok());
  CHECK(here.value()->others().value().empty());
}

TEST_CASE("a place takes over what is at another", "[store]") {
  TemporaryDirectory d;
  leave(d.path(), kThere);
  {
    auto here = lock(d.path(), kHere);
    REQUIRE(here.ok());
    auto others = here.value()->others();
    REQUIRE(others.value().size() == 1);
    REQUIRE(here.value()->take_over(*others.value()[0]).ok());
    others.value().clear();
    check_left(*here.value(), "https://i:443/images/...");
    // Whose it is now is said by the next upload.
    REQUIRE(here.value()->open("https://h:443/images/...", kSize, false).ok());
  }
  const auto there = lock(d.path(), kThere);
  auto others = there.value()->others();
  REQUIRE(others.value().size() == 1);
  check_left(*others.value()[0], "https://h:443/images/...");
}

TEST_CASE("a spool of the first releases is taken over by the same URL", "[store]") {
  TemporaryDirectory d;
  const std::string old = d.path() + kOldName;
  leave(d.path(), kHere);
  make_old(lock(d.path(), kHere).value()->path(), old);
  auto here = lock(d.path(), kHere);
  INFO(here.status().text());
  REQUIRE(here.ok());
  CHECK(!fs::exists(old));
  CHECK(!fs::exists(old + ".lock"));
  CHECK(here.value()->others().value().empty());
  check_left(*here.value(), "https://h:443/images/...");
  auto store = here.value()->open("https://h:443/images/...", kSize, true);
  REQUIRE(store.ok());
  // Of the file, which has just been made.
  CHECK(store.value()->about().changed_at > wall_clock.time);
  const Row row(2);
  REQUIRE(store.value()->append({&row.content, 1}).ok());
  const Ids drop = {1};
  REQUIRE(store.value()->drop(drop).ok());
  store.value().reset();
  store = here.value()->open("https://h:443/images/...", kSize, true);
  REQUIRE(store.ok());
  CHECK(store.value()->rows().value().size() == 1);
}

TEST_CASE("a spool of the first releases is found under another host", "[store]") {
  TemporaryDirectory d;
  leave(d.path(), kHere);
  make_old(lock(d.path(), kHere).value()->path(), d.path() + kOldName);
  // Another path's, and what is none.
  leave(d.path(), {"h:443", "/images/two"});
  make_old(lock(d.path(), {"h:443", "/images/two"}).value()->path(),
           d.path() + "/0123456789abcdef0123456789abcdef.spool");
  spill(d.path() + "/fedcba98765432100123456789abcdef.spool", "nonsense");
  auto there = lock(d.path(), kThere);
  auto others = there.value()->others();
  INFO(others.status().text());
  REQUIRE(others.ok());
  REQUIRE(others.value().size() == 1);
  check_left(*others.value()[0], "https://h:443/images/...");
}

TEST_CASE("two spools of one URL, under the old name and the new, are refused", "[store]") {
  TemporaryDirectory d;
  const std::string old = d.path() + kOldName;
  leave(d.path(), kHere);
  const std::string path = lock(d.path(), kHere).value()->path();
  make_old(path, old);
  const std::string kept = slurp(old);
  lock(d.path(), kHere).value().reset();  // takes it over
  CHECK(fs::exists(path));
  spill(old, kept);
  CHECK(lock(d.path(), kHere).status().text() ==
        "spool=" + d.path() + ": there are two spools of this disk, " + old +
            " of an earlier release and " + path + "; move the one away that is not to be sent");
}

// --- Other accounts -------------------------------------------------------

namespace {

constexpr uid_t kSomebody = 65534;

// Runs SQL on a file that is not in use.
void meddle(const std::string& path, const std::string& sql) {
  sqlite3* database = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &database) == SQLITE_OK);
  char* error = nullptr;
  sqlite3_exec(database, sql.c_str(), nullptr, nullptr, &error);
  INFO(sql << ": " << (error == nullptr ? "" : error));
  CHECK(error == nullptr);
  sqlite3_free(error);
  sqlite3_close(database);
}

// The text with which a place is refused; empty: it is not. No URL: only looked into.
std::string refusal(const std::string& directory, const SpoolName& name = kHere) {
  auto place = lock(directory, name);
  if (!place.ok()) return place.status().text();
  return place.value()->open("https://" + name.host + "/images/...", kSize, true).status().text();
}

std::string path_of(const std::string& directory, const SpoolName& name = kHere) {
  auto place = lock(directory, name);
  REQUIRE(place.ok());
  return place.value()->path();
}

bool has(const std::string& text, const std::string& part) {
  INFO(text << " has not: " << part);
  CHECK(text.find(part) != std::string::npos);
  return text.find(part) != std::string::npos;
}

// Gives it to another account; false: this one may not.
bool give_away(const std::string& path) {
  if (geteuid() == 0) return lchown(path.c_str(), kSomebody, static_cast<gid_t>(-1)) == 0;
  WARN("skipped: only root can give " << path << " to another account");
  return false;
}

}  // namespace

TEST_CASE("a directory in which others may make files is refused", "[store][safe]") {
  TemporaryDirectory d;
  for (const mode_t mode : {0777, 0770, 01777, 0720}) {
    REQUIRE(chmod(d.path().c_str(), mode) == 0);
    CHECK(lock(d.path(), kHere).status().text() ==
          "spool=" + d.path() + ": has mode " + upload::format("%04o", mode) +
              ", with which others may make files there: say chmod "
              "go-w " +
              d.path() + ", or use a directory of your own");
    CHECK(fs::is_empty(d.path()));
  }
  for (const mode_t mode : {0755, 0700, 0750}) {
    REQUIRE(chmod(d.path().c_str(), mode) == 0);
    CHECK(refusal(d.path()).empty());
  }
}

TEST_CASE("a directory of another account is refused", "[store][safe]") {
  TemporaryDirectory d;
  if (!give_away(d.path())) return;
  CHECK(lock(d.path(), kHere).status().text() ==
        "spool=" + d.path() +
            ": belongs to uid 65534, and nbdkit runs as uid 0: use a directory "
            "of your own");
  CHECK(fs::is_empty(d.path()));
}

TEST_CASE("a file of another account is refused and kept, whatever its name", "[store][safe]") {
  for (const std::string suffix : {"", "-journal", ".lock"}) {
    TemporaryDirectory d;
    leave(d.path(), kHere);
    const std::string file = path_of(d.path()) + suffix;
    if (!suffix.empty()) spill(file, "");
    if (!give_away(file)) return;
    const std::string before = slurp(file);
    has(refusal(d.path()), file + " belongs to uid 65534, and nbdkit runs as uid 0");
    CHECK(slurp(file) == before);
  }
}

TEST_CASE("a journal that others have made before there is a spool is refused", "[store][safe]") {
  TemporaryDirectory d;
  const std::string file = path_of(d.path());
  spill(file + "-journal", "");
  if (give_away(file + "-journal")) {
    has(refusal(d.path()), "-journal belongs to uid 65534");
    CHECK(!fs::exists(file));
  }
}

TEST_CASE("a file that others may write to is refused", "[store][safe]") {
  for (const std::string suffix : {"", "-journal", ".lock"}) {
    TemporaryDirectory d;
    leave(d.path(), kHere);
    const std::string file = path_of(d.path()) + suffix;
    if (!suffix.empty()) spill(file, "");
    REQUIRE(chmod(file.c_str(), 0666) == 0);
    has(refusal(d.path()), file + " has mode 0666, with which others may write to it");
    REQUIRE(chmod(file.c_str(), 0644) == 0);
    CHECK(refusal(d.path()).empty());
  }
}

TEST_CASE("a file that has another name as well, or is a link or a pipe, is refused",
          "[store][safe]") {
  for (const std::string suffix : {"", "-journal", ".lock"}) {
    TemporaryDirectory d;
    leave(d.path(), kHere);
    const std::string file = path_of(d.path()) + suffix;
    if (!suffix.empty()) spill(file, "");
    fs::create_hard_link(file, d.path() + "/second");
    has(refusal(d.path()), file + " has 2 names (hard links)");
    fs::remove(file);
    fs::create_symlink("second", file);
    has(refusal(d.path()), file + " is a symbolic link, which is not followed");
    fs::remove(file);
    fs::create_symlink("nowhere", file);
    has(refusal(d.path()), file + " is a symbolic link, which is not followed");
    CHECK(!fs::exists(d.path() + "/nowhere"));
    fs::remove(file);
    REQUIRE(mkfifo(file.c_str(), 0600) == 0);
    has(refusal(d.path()), file + " is not a file");
  }
}

TEST_CASE("what is left of a spool that was being made is not used", "[store][safe]") {
  TemporaryDirectory d;
  const std::string file = path_of(d.path());
  spill(d.path() + "/victim", "victim");
  fs::create_symlink("victim", file + ".new");
  fs::create_symlink("victim", file + ".new-journal");
  CHECK(refusal(d.path()).empty());
  CHECK(slurp(d.path() + "/victim") == "victim");
  CHECK(!fs::is_symlink(fs::symlink_status(file)));
  CHECK(!fs::exists(fs::symlink_status(file + ".new")));
}

TEST_CASE("a journal without its spool is not rolled back into a new one", "[store][safe]") {
  TemporaryDirectory d;
  leave(d.path(), kHere);
  const std::string file = path_of(d.path());
  fs::rename(file, d.path() + "/moved");
  spill(file + "-journal", std::string(1000, 'x'));
  has(refusal(d.path()), "the spool " + file + " can't be made: there is " + file +
                             "-journal, which belongs to another one");
  CHECK(!fs::exists(file));
  // As it is left by a process that ended between two removals.
  spill(file + "-journal", "");
  CHECK(refusal(d.path()).empty());
}

TEST_CASE("nothing is written to a database that is not a spool of this disk", "[store][safe]") {
  const std::string foreign =
      "CREATE TABLE mail (text); INSERT INTO mail VALUES ('x'), ('y'); PRAGMA user_version = 7";
  for (const std::string mode : {"PRAGMA journal_mode = DELETE", "PRAGMA journal_mode = WAL"}) {
    TemporaryDirectory d;
    const std::string file = path_of(d.path());
    meddle(file, mode + ";" + foreign);
    fs::permissions(file, fs::perms::owner_read | fs::perms::owner_write);
    const std::string before = slurp(file);
    has(refusal(d.path()), file + " is damaged: it is not a spool of the upload plugin");
    CHECK(slurp(file) == before);
    CHECK(!fs::exists(file + "-journal"));
    CHECK(!fs::exists(file + "-wal"));
  }
  TemporaryDirectory d;
  leave(d.path(), kHere);
  const std::string file = path_of(d.path());
  meddle(file, "PRAGMA journal_mode = WAL");
  const std::string before = slurp(file);
  has(refusal(d.path()), file + " is damaged: it does not have a rollback journal");
  CHECK(slurp(file) == before);
}

TEST_CASE("a copy of another disk's spool is refused and kept", "[store][safe]") {
  TemporaryDirectory d;
  const SpoolName two = {"h:443", "/images/two"};
  leave(d.path(), two);
  const std::string file = path_of(d.path());
  fs::copy_file(path_of(d.path(), two), file);
  const std::string before = slurp(file);
  // Also if something is to be rolled back in it.
  for (const std::string& journal : {std::string(), std::string(516, '\0')}) {
    spill(file + "-journal", journal);
    const std::string text = refusal(d.path());
    has(text, "the spool " + file + " is of another disk, ");
    has(text, ": give it its own name again, or move it away");
    CHECK(slurp(file) == before);
    CHECK(slurp(file + "-journal") == journal);
  }
}

TEST_CASE("a spool of an earlier release, which does not say its disk, is taken",
          "[store][safe]") {
  TemporaryDirectory d;
  leave(d.path(), kHere);
  const std::string file = path_of(d.path());
  meddle(file, "ALTER TABLE spool DROP COLUMN disk; PRAGMA user_version = 2");
  check_left(*lock(d.path(), kHere).value(), "https://h:443/images/...");
  CHECK(refusal(d.path()).empty());
  auto place = lock(d.path(), kHere);
  auto store = place.value()->open("https://h:443/images/...", kSize, true);
  REQUIRE(store.ok());
  CHECK(store.value()->about().changed_at == wall_clock.time);
  const Row row(2);
  CHECK(store.value()->append({&row.content, 1}).ok());
}

TEST_CASE("a spool has its two tables and nothing else", "[store][safe]") {
  const char* const changes[] = {
      "CREATE TABLE third (x)", "CREATE INDEX fast ON change (sequence)",
      "CREATE VIEW look AS SELECT 1",
      "CREATE TRIGGER t AFTER INSERT ON change BEGIN DELETE FROM change; END",
      "ALTER TABLE change ADD COLUMN more", "ALTER TABLE spool ADD COLUMN more",
      "ALTER TABLE change RENAME TO changes", "DROP TABLE change",
      // Without an end.
      "DROP TABLE change; CREATE VIEW change AS WITH RECURSIVE r(id) AS (SELECT 1 UNION ALL"
      " SELECT id + 1 FROM r) SELECT id, 0 AS offset, 1 AS length, id AS sequence, 1 AS zero,"
      " 0 AS not_before, zeroblob(32) AS digest, NULL AS data FROM r;"
      "CREATE TRIGGER i INSTEAD OF INSERT ON change BEGIN SELECT 1; END;"
      "CREATE TRIGGER d INSTEAD OF DELETE ON change BEGIN SELECT 1; END"};
  for (const char* const sql : changes) {
    TemporaryDirectory d;
    leave(d.path(), kHere);
    const std::string file = path_of(d.path());
    meddle(file, sql);
    const std::string before = slurp(file);
    INFO(sql);
    // A start that does not end is ended.
    alarm(60);
    has(refusal(d.path()), "the tables of a spool; it is left as it is, to be looked into");
    alarm(0);
    CHECK(slurp(file) == before);
  }
}

TEST_CASE("a row that no disk can have is damage", "[store][safe]") {
  // OFFSET, LENGTH, ZERO, whether there is data: the row's digest, and so the sum, is right.
  const struct {
    int64_t offset;
    int64_t length;
    int zero;
    std::string data;
    const char* text;
  } rows[] = {
      {int64_t{1} << 40, 512, 1, "NULL",
       "a change of 512 bytes at offset 1099511627776 is not within the disk"},
      {-4096, 512, 1, "NULL", "a change of 512 bytes at offset -4096 is not within the disk"},
      {0, -1, 1, "NULL", "a change of -1 bytes at offset 0 is not within the disk"},
      {0, INT64_MIN, 1, "NULL", "is not within the disk"},
      {4096, INT64_MAX, 1, "NULL", "is not within the disk"},
      {0, 0, 1, "NULL", "a change of 0 bytes at offset 0 is not within the disk"},
      {kSize - 511, 512, 1, "NULL", "is not within the disk"},
      {0, 512, 2, "NULL", "is neither data nor zeroes"},
      {0, 512, -1, "zeroblob(512)", "is neither data nor zeroes"},
      {0, 512, 0, "NULL", "is neither data nor zeroes"},
      {0, 512, 1, "x''", "is neither data nor zeroes"},
      {0, 512, 1, "zeroblob(512)", "is neither data nor zeroes"},
      {kSize - 512, 512, 1, "NULL", ""},
      {kSize - 512, 512, 0, "zeroblob(512)", ""},
  };
  for (const auto& row : rows) {
    TemporaryDirectory d;
    auto place = lock(d.path(), kHere);
    REQUIRE(place.ok());
    const std::string data(512, '\0');
    const bool zero = row.zero != 0;
    {
      auto store = place.value()->open("https://h:443/images/...", kSize, true);
      REQUIRE(store.ok());
      // The store computes the digest of any row, but is of a disk for which it is right.
      const SpoolContent content{
          {7, {static_cast<uint64_t>(row.offset), static_cast<uint64_t>(row.length)}, 7, zero, 0},
          zero ? nullptr : data.data()};
      REQUIRE(store.value()->append({&content, 1}).ok());
    }
    meddle(place.value()->path(),
           "UPDATE change SET zero = " + std::to_string(row.zero) + ", data = " + row.data);
    INFO(row.offset << " " << row.length << " " << row.zero << " " << row.data);
    alarm(60);
    auto store = place.value()->open("https://h:443/images/...", kSize, true);
    alarm(0);
    if (*row.text == '\0') {
      CHECK(store.status().text().empty());
      continue;
    }
    REQUIRE(!store.ok());
    has(store.status().text(), " is damaged: ");
    has(store.status().text(), row.text);
  }
}

TEST_CASE("a row whose fields are no numbers is damage", "[store][safe]") {
  for (const char* const field : {"offset", "length", "sequence", "zero", "not_before"}) {
    TemporaryDirectory d;
    leave(d.path(), kHere);
    meddle(path_of(d.path()), std::string("UPDATE change SET ") + field + " = 'x'");
    has(refusal(d.path()), " is damaged: a change has a field that is no number");
  }
}

// --- Files that go while they are in use ----------------------------------

TEST_CASE("a spool that is removed or replaced while in use takes nothing more",
          "[store][safe]") {
  for (const bool replaced : {false, true}) {
    for (const std::string suffix : {"", "-journal"}) {
      Fixture f;
      auto store = f.store();
      REQUIRE(append(*store, 1, 2).ok());
      CHECK(store->check().ok());
      const std::string file = f.path + suffix;
      fs::rename(file, f.directory.path() + "/moved");
      if (replaced) spill(file, "another process's");
      const Status status = append(*store, 3);
      CHECK(status.kind() == Kind::kSpool);
      CHECK(status.text() == (suffix.empty() ? "the spool " : "the journal ") + file +
                                 " has been " + (replaced ? "replaced" : "removed") +
                                 " while in use");
      CHECK(store->check().text() == status.text());
      const Ids drop = {1};
      CHECK(store->drop(drop).text() == status.text());
      CHECK(!store->empty());
    }
  }
}

TEST_CASE("a spool whose directory is replaced leaves what is there to others", "[store][safe]") {
  TemporaryDirectory d;
  const std::string directory = d.path() + "/spool";
  fs::create_directory(directory);
  fs::permissions(directory, fs::perms::owner_all);
  auto first = lock(directory, kHere);
  REQUIRE(first.ok());
  auto store = first.value()->open("https://h:443/images/...", kSize, true);
  REQUIRE(store.ok());
  CHECK(store.value()->empty());
  fs::remove_all(directory);
  CHECK(!store.value()->empty());
  fs::create_directory(directory);
  fs::permissions(directory, fs::perms::owner_all);
  auto second = lock(directory, kHere);
  REQUIRE(second.ok());
  auto other = second.value()->open("https://h:443/images/...", kSize, true);
  REQUIRE(other.ok());
  const Row row(1);
  REQUIRE(other.value()->append({&row.content, 1}).ok());
  CHECK(store.value()->append({&row.content, 1}).text() ==
        "the spool " + first.value()->path() + " has been replaced while in use");
  store.value().reset();
  first.value()->remove();
  first.value().reset();
  CHECK(fs::exists(second.value()->path()));
  CHECK(!lock(directory, kHere).ok());
  const Row next(2);
  CHECK(other.value()->append({&next.content, 1}).ok());
}
