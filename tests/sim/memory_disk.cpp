// SPDX-License-Identifier: BSD-3-Clause
//
// A file is a map of rows. Time passes before and after a transaction; it
// itself happens at once.

#include "sim/memory_disk.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace upload::sim {

using namespace std::chrono_literals;
using journal::SpoolContent;
using journal::SpoolRow;

class MemoryStore final : public journal::Store {
 public:
  MemoryStore(MemoryDisk& disk, MemoryDisk::File& file) : disk_(disk), file_(file) {}

  Result<std::vector<SpoolRow>> rows() override {
    std::vector<SpoolRow> rows;
    for (const auto& [id, row] : file_.rows) rows.push_back(row.row);
    std::sort(rows.begin(), rows.end(), [](const SpoolRow& a, const SpoolRow& b) {
      return std::pair(a.sequence, a.id) < std::pair(b.sequence, b.id);
    });
    return rows;
  }
  bool had_torn_tail() const override { return false; }
  bool empty() const override { return file_.rows.empty() && failed_.ok(); }
  journal::StoreAbout about() const override { return {file_.url, file_.size, 1}; }

  Status append(std::span<const SpoolContent> contents) override {
    if (Status status = begin(true); !status.ok()) return status;
    for (const SpoolContent& content : contents) {
      const SpoolRow& row = content.row;
      require(row.range.length > 0 && row.range.end() <= file_.size, "a row beyond the disk");
      require(row.zero == (content.data == nullptr), "a row of zeroes with data");
      MemoryDisk::Row kept{row, {}};
      if (content.data != nullptr) {
        const auto* const data = static_cast<const char*>(content.data);
        kept.data.assign(data, data + row.range.length);
      }
      require(file_.rows.emplace(row.id, std::move(kept)).second, "a row has the id of another");
    }
    scheduler().note("disk: %zu rows more", contents.size());
    return end();
  }
  Status drop(std::span<const uint64_t> ids) override {
    if (Status status = begin(disk_.full_ && scheduler().random().percent(30)); !status.ok())
      return status;
    for (const uint64_t id : ids)
      require(file_.rows.erase(id) == 1, "a row is dropped that is not there");
    scheduler().note("disk: %zu rows less", ids.size());
    return end();
  }
  Result<bool> read(uint64_t id, uint64_t skip, void* buffer, uint64_t length) override {
    scheduler().sleep(100us);
    if (!failed_.ok()) return failed_;
    const auto found = file_.rows.find(id);
    if (found == file_.rows.end()) return false;
    require(skip + length <= found->second.data.size(), "a read beyond the end of a row");
    memcpy(buffer, found->second.data.data() + skip, length);
    return true;
  }
  Status shrink() override {
    // It may be long, so that others come in between.
    scheduler().sleep(std::chrono::milliseconds(scheduler().random().below(2) * 200 + 1));
    return failed_;
  }
  Status check() override { return failed_; }

 private:
  // Where it hangs it does so before the change or after it.
  Status begin(bool writes) {
    scheduler().sleep(500us);
    if (writes) hang();
    if (!failed_.ok()) return failed_;
    if (std::exchange(disk_.breaks_, false))
      return failed_ = {Kind::kSpool, "the spool could not be synced"};
    if (writes && disk_.full_) return {Kind::kNoSpace, "the disk is full"};
    return {};
  }
  Status end() {
    scheduler().sleep(500us);
    hang();
    return {};
  }
  void hang() {
    while (scheduler().now() < disk_.hangs_until_)
      scheduler().sleep(disk_.hangs_until_ - scheduler().now());
  }

  MemoryDisk& disk_;
  MemoryDisk::File& file_;
  Status failed_;
};

class MemoryPlace final : public journal::SpoolPlace {
 public:
  MemoryPlace(MemoryDisk& disk, journal::SpoolName name, MemoryDisk::File& file)
      : disk_(disk), name_(std::move(name)), path_(name_.host + name_.path), file_(file) {}
  ~MemoryPlace() override { file_.locked = false; }

  const std::string& path() const override { return path_; }
  bool exists() const override { return file_.exists; }
  Result<std::unique_ptr<journal::Store>> open(const std::string& url, uint64_t size,
                                               bool) override {
    if (file_.exists && size != 0 && file_.size != size)
      return Status(Kind::kInvalid, "the spool is of a disk of another size");
    if (size != 0 || !file_.exists) file_.url = url;
    if (!file_.exists) file_.size = size;
    file_.exists = true;
    return std::unique_ptr<journal::Store>(std::make_unique<MemoryStore>(disk_, file_));
  }
  void remove() override {
    file_.exists = false;
    file_.rows.clear();
  }
  Result<std::vector<std::unique_ptr<journal::SpoolPlace>>> others() override {
    std::vector<std::unique_ptr<journal::SpoolPlace>> places;
    for (auto& [key, file] : disk_.files_) {
      if (key.first != name_.path || key.second == name_.host || file.locked || !file.exists)
        continue;
      file.locked = true;
      places.push_back(
          std::make_unique<MemoryPlace>(disk_, journal::SpoolName{key.second, key.first}, file));
    }
    return places;
  }
  Status take_over(journal::SpoolPlace& other) override {
    MemoryDisk::File& from = static_cast<MemoryPlace&>(other).file_;
    require(!file_.exists || file_.rows.empty(), "a spool with changes is replaced");
    file_.exists = std::exchange(from.exists, false);
    file_.url = from.url;
    file_.size = from.size;
    file_.rows = std::move(from.rows);
    from.rows.clear();
    return {};
  }

 private:
  MemoryDisk& disk_;
  const journal::SpoolName name_;
  const std::string path_;
  MemoryDisk::File& file_;
};

Result<std::unique_ptr<journal::SpoolPlace>> MemoryDisk::take(const journal::SpoolName& name,
                                                              const Clock&) {
  File& file = files_[{name.path, name.host}];
  if (file.locked) return Status(Kind::kSpool, "another nbdkit uses the spool");
  file.locked = true;
  return std::unique_ptr<journal::SpoolPlace>(std::make_unique<MemoryPlace>(*this, name, file));
}

void MemoryDisk::mend() {
  full_ = breaks_ = false;
  hangs_until_ = scheduler().now();
}

void MemoryDisk::killed() {
  for (auto& [path, file] : files_) file.locked = false;
}

bool MemoryDisk::has_stores() {
  return std::any_of(files_.begin(), files_.end(),
                     [](const auto& file) { return file.second.exists; });
}

bool MemoryDisk::in_use() {
  return std::any_of(files_.begin(), files_.end(),
                     [](const auto& file) { return file.second.locked; });
}

uint64_t MemoryDisk::rows() {
  uint64_t rows = 0;
  for (const auto& [path, file] : files_) rows += file.rows.size();
  return rows;
}

}  // namespace upload::sim
