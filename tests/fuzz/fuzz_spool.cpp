// SPDX-License-Identifier: BSD-3-Clause
//
// Whatever is in the files of a spool: it is taken as rows that the disk can have, or
// refused. The input is a list of edits of a spool that is in order, so that what is found
// is more than that a header is wrong. Each edit is a byte that says what, and its
// arguments; numbers have 4 bytes, the lowest first.

#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "fuzz/check.h"
#include "journal/spool_file.h"

using namespace upload;
using upload::fuzz::check;
using namespace upload::journal;
namespace fs = std::filesystem;

namespace {

constexpr uint64_t kSize = uint64_t{1} << 20;
const SpoolName kName = {"host:443", "/images/ticket"};
const char* const kUrl = "https://host:443/images/...";

std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void spill(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
}

// A directory with a spool of six rows in it.
class Place {
 public:
  Place() {
    const std::string in = fs::exists("/dev/shm") ? "/dev/shm" : "/tmp";
    std::string name = in + "/fuzz-spool-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) abort();
    directory_ = name;
    auto place = SpoolFile::lock(directory_, kName, clock());
    file_ = place.value()->path();
    auto store = place.value()->open(kUrl, kSize, true);
    const std::string data(8192, 'd');
    std::vector<SpoolContent> contents;
    for (uint64_t id = 1; id <= 6; ++id)
      contents.push_back({{id, {id * 65536, 512 * id}, id, id % 2 == 0, 0},
                          id % 2 == 0 ? nullptr : data.data()});
    check(store.value()->append(contents).ok());
    store.value().reset();
    good_ = slurp(file_);
  }
  ~Place() { fs::remove_all(directory_); }

  static const Clock& clock() {
    static SteadyClock real;
    return real;
  }
  const std::string& directory() const { return directory_; }
  const std::string& file() const { return file_; }

  void restore() const {
    for (const auto& entry : fs::directory_iterator(directory_)) fs::remove(entry);
    spill(file_, good_);
  }

 private:
  std::string directory_;
  std::string file_;
  std::string good_;
};

class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}
  bool done() const { return rest_.empty(); }
  uint8_t byte() { return static_cast<uint8_t>(bytes(1)[0]); }
  uint32_t number() {
    uint32_t number = 0;
    memcpy(&number, bytes(4).data(), 4);
    return number;
  }
  // With zeroes behind the end.
  std::string bytes(size_t count) {
    std::string taken(rest_.substr(0, count));
    rest_.remove_prefix(taken.size());
    taken.resize(count);
    return taken;
  }
  std::string text() { return bytes(std::min<size_t>(byte(), rest_.size())); }

 private:
  std::string_view rest_;
};

void run_sql(const std::string& file, const std::string& sql) {
  sqlite3* database = nullptr;
  if (sqlite3_open_v2(file.c_str(), &database, SQLITE_OPEN_READWRITE, nullptr) == SQLITE_OK) {
    // A statement of the input may have no end.
    sqlite3_progress_handler(
        database, 10000, [](void*) { return 1; }, nullptr);
    sqlite3_limit(database, SQLITE_LIMIT_LENGTH, 1 << 20);
    sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr);
  }
  sqlite3_close(database);
}

// Over what is at that offset.
void overwrite(const std::string& file, size_t at, const std::string& bytes) {
  std::string text = slurp(file);
  at = text.empty() ? 0 : at % text.size();
  text.resize(std::max(text.size(), at + bytes.size()));
  text.replace(at, bytes.size(), bytes);
  spill(file, text);
}

void edit(const std::string& file, Input& input) {
  const std::string journal = file + "-journal";
  constexpr const char* kFields[] = {"id", "offset", "length", "sequence", "zero", "not_before"};
  switch (input.byte() % 8) {
    case 0: overwrite(file, input.number(), input.text()); break;
    case 1: fs::resize_file(file, input.number() % (2 * fs::file_size(file) + 1)); break;
    case 2: spill(journal, input.text()); break;
    case 3: {
      // A journal that is in order but for what is changed in it.
      std::string text("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", 8);
      text += std::string("\0\0\0\1", 4) + input.bytes(4) +
              std::string("\0\0\0\4\0\0\2\0\0\0\x10\0", 12);
      text.resize(512);
      spill(journal, text + input.bytes(4) + input.bytes(4096) + input.bytes(4));
      break;
    }
    case 4:
      run_sql(file, std::string("UPDATE change SET ") + kFields[input.byte() % 6] + " = " +
                        std::to_string(static_cast<int32_t>(input.number())) +
                        (input.byte() % 2 == 0 ? "" : " * 4294967296") +
                        " WHERE id = " + std::to_string(input.byte() % 8));
      break;
    case 5: run_sql(file, input.text()); break;
    case 6:
      run_sql(file, "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = '" +
                        input.text() + "'");
      break;
    default: spill(file, input.text()); break;
  }
}

void use(Store& store) {
  auto rows = store.rows();
  if (!rows.ok()) return;
  std::vector<uint64_t> ids;
  for (const SpoolRow& row : rows.value()) {
    check(row.range.length > 0 && row.range.offset < kSize &&
          row.range.length <= kSize - row.range.offset);
    ids.push_back(row.id);
    std::string data(row.range.length, 'x');
    if (!row.zero) (void)store.read(row.id, 0, data.data(), data.size()).ok();
  }
  const std::string data(512, 'n');
  const SpoolContent content = {{uint64_t{1} << 40, {0, 512}, uint64_t{1} << 40, false, 0},
                                data.data()};
  (void)store.append({&content, 1}).ok();
  (void)store.drop(ids).ok();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Place place;
  place.restore();
  Input input(data, size);
  for (int edits = 0; edits < 8 && !input.done(); ++edits) edit(place.file(), input);
  auto locked = SpoolFile::lock(place.directory(), kName, Place::clock());
  if (!locked.ok()) return 0;
  for (const bool verify : {true, false}) {
    auto store = locked.value()->open(kUrl, kSize, verify);
    if (store.ok()) use(*store.value());
  }
  return 0;
}
