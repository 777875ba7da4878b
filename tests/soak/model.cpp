// SPDX-License-Identifier: BSD-3-Clause
//
// The model's book-keeping. Each question about a cell is one pass over its
// history: the newest acknowledged write before T is the one that began last,
// and rules out whatever was done before it began.
//
// Histories are kept short: a write that is below the cell's floor and ruled out
// for every operation that is under way can be asked for by nobody. It stays
// in writes_, which tells what is stale from what was never there.

#include "soak/model.h"

#include <algorithm>
#include <cstring>

namespace upload::soak {

// A cell's bytes, understood.
struct Model::Content {
  uint64_t number = 0;
  bool whole = true;
  bool foreign = false;  // not of this cell
};

Model::Model(uint64_t size, bool keeps_hidden)
    : geometry_(size),
      keeps_hidden_(keeps_hidden),
      writes_(1),
      histories_(geometry_.cells(), {{0, 0, 0, true}}),
      under_way_(geometry_.cells(), 0),
      last_ended_(geometry_.cells(), 0),
      floors_(geometry_.cells(), 0) {}

Model::Time Model::begin() {
  const std::lock_guard lock(mutex_);
  active_.insert(++now_);
  return now_;
}

void Model::end(Time operation) {
  const std::lock_guard lock(mutex_);
  active_.erase(operation);
}

Model::Time Model::begin_write(Cells cells, bool zero) {
  const std::lock_guard lock(mutex_);
  active_.insert(++now_);
  writes_.resize(now_ + 1);
  writes_[now_] = cells;
  for (uint64_t cell = cells.first; cell < cells.end(); ++cell) {
    histories_[cell].push_back({now_, zero ? 0 : now_, kPending, false});
    ++under_way_[cell];
  }
  return now_;
}

void Model::end_write(Time operation, Cells cells, bool acknowledged, bool fua) {
  const std::lock_guard lock(mutex_);
  const Time ended = ++now_;
  active_.erase(operation);
  for (uint64_t cell = cells.first; cell < cells.end(); ++cell) {
    for (Write& write : histories_[cell]) {
      if (write.began != operation) continue;
      write.ended = ended;
      write.acknowledged = acknowledged;
    }
    --under_way_[cell];
    last_ended_[cell] = ended;
    if (acknowledged && fua) floors_[cell] = std::max(floors_[cell], operation);
    prune(cell);
  }
  ++now_;
}

void Model::flushed(Time operation) {
  const std::lock_guard lock(mutex_);
  for (uint64_t cell = 0; cell < floors_.size(); ++cell)
    if (keeps_hidden_ || (under_way_[cell] == 0 && last_ended_[cell] < operation))
      raise_floor(cell, operation);
}

void Model::raise_floor(uint64_t cell, Time flush) {
  Time newest = 0;
  for (const Write& write : histories_[cell])
    if (write.acknowledged && write.ended < flush) newest = std::max(newest, write.began);
  floors_[cell] = std::max(floors_[cell], newest);
}

void Model::crashed() {
  const std::lock_guard lock(mutex_);
  ++now_;
  for (uint64_t cell = 0; cell < floors_.size(); ++cell)
    for (Write& write : histories_[cell])
      if (write.began > floors_[cell]) write.acknowledged = false;
}

namespace {

// What a write with that number leaves in a cell of one byte.
char byte_of(uint64_t number) {
  return number == 0 ? '\0' : static_cast<char>(1 + (number * 0x9e3779b1ULL >> 8) % 255);
}

}  // namespace

void Model::fill(Cells cells, uint64_t number, std::span<char> out) {
  size_t at = 0;
  for (uint64_t cell = cells.first; cell < cells.end(); ++cell) {
    if (cell < Geometry::kByteCells) {
      out[at++] = byte_of(number);
      continue;
    }
    const uint64_t words[] = {number, cell + 1};
    for (const uint64_t end = at + Geometry::bytes_of({cell, 1}); at < end; at += sizeof words)
      memcpy(&out[at], words, sizeof words);
  }
}

Model::Content Model::content_of(uint64_t cell, const char* bytes) {
  Content content;
  uint64_t words[2];
  memcpy(words, bytes, sizeof words);
  content.number = words[0];
  for (uint64_t at = 0; at < Geometry::bytes_of({cell, 1}); at += sizeof words) {
    uint64_t here[2];
    memcpy(here, bytes + at, sizeof here);
    content.whole = content.whole && memcmp(here, words, sizeof here) == 0;
    content.foreign = content.foreign || here[1] != (here[0] == 0 ? 0 : cell + 1);
  }
  return content;
}

// A byte is right if any write that leaves it is allowed.
template <typename CellRule>
Model::Verdict Model::check_byte(uint64_t cell, char byte, Content& content,
                                 CellRule rule) const {
  Verdict kind = Wrong::Kind::foreign;
  for (const Write& write : histories_[cell]) {
    if (byte_of(write.number) != byte) continue;
    content.number = write.number;
    kind = rule(cell, content);
    if (!kind) break;
  }
  return kind;
}

// Looks at each cell; `rule` says what is wrong with one that holds a write of
// its own.
template <typename CellRule>
std::vector<Wrong> Model::check(Cells cells, std::span<const char> data, CellRule rule) const {
  std::vector<Wrong> wrong;
  const std::lock_guard lock(mutex_);
  const char* bytes = data.data();
  for (uint64_t cell = cells.first; cell < cells.end(); ++cell) {
    Content content;
    Verdict kind;
    if (cell < Geometry::kByteCells) {
      kind = check_byte(cell, *bytes, content, rule);
    } else {
      content = content_of(cell, bytes);
      const bool foreign = content.foreign || !ever_written(cell, content.number);
      kind = foreign ? Wrong::Kind::foreign : rule(cell, content);
    }
    bytes += Geometry::bytes_of({cell, 1});
    if (kind) wrong.push_back({*kind, cell, content.number});
  }
  return wrong;
}

std::vector<Wrong> Model::check_read(Time operation, Cells cells,
                                     std::span<const char> data) const {
  return check(cells, data, [&](uint64_t cell, const Content& content) -> Verdict {
    if (!content.whole) return written_since(cell, operation) ? Verdict() : Wrong::Kind::torn;
    return allowed(cell, content.number, operation) ? Verdict() : Wrong::Kind::stale;
  });
}

std::vector<Model::Time> Model::floors(Cells cells) const {
  const std::lock_guard lock(mutex_);
  const auto first = floors_.begin() + static_cast<std::ptrdiff_t>(cells.first);
  return {first, first + static_cast<std::ptrdiff_t>(cells.count)};
}

std::vector<Wrong> Model::check_stable(Cells cells, const std::vector<Time>& floors,
                                       std::span<const char> data) const {
  return check(cells, data, [&](uint64_t cell, const Content& content) -> Verdict {
    if (!content.whole) return Wrong::Kind::torn;
    const bool asked = floors_[cell] == floors[cell - cells.first];
    return !asked || allowed_stable(cell, content.number) ? Verdict() : Wrong::Kind::stale;
  });
}

bool Model::allowed(uint64_t cell, uint64_t number, Time at) const {
  Time newest = 0;
  for (const Write& write : histories_[cell])
    if (write.acknowledged && write.ended < at) newest = std::max(newest, write.began);
  return std::any_of(histories_[cell].begin(), histories_[cell].end(), [&](const Write& write) {
    return write.number == number && write.ended >= newest;
  });
}

bool Model::allowed_stable(uint64_t cell, uint64_t number) const {
  return std::any_of(histories_[cell].begin(), histories_[cell].end(), [&](const Write& write) {
    return write.number == number && write.ended >= floors_[cell];
  });
}

bool Model::written_since(uint64_t cell, Time since) const {
  return std::any_of(histories_[cell].begin(), histories_[cell].end(),
                     [&](const Write& write) { return write.ended >= since; });
}

bool Model::ever_written(uint64_t cell, uint64_t number) const {
  if (number == 0) return true;
  if (number >= writes_.size()) return false;
  const Cells& cells = writes_[number];
  return cell >= cells.first && cell < cells.end();
}

void Model::prune(uint64_t cell) {
  std::vector<Write>& history = histories_[cell];
  const Time oldest = active_.empty() ? now_ : *active_.begin();
  Time newest = 0;
  for (const Write& write : history)
    if (write.acknowledged && write.ended < oldest) newest = std::max(newest, write.began);
  newest = std::min(newest, floors_[cell]);
  std::erase_if(history, [&](const Write& write) { return write.ended < newest; });
}

std::string Model::describe(const Wrong& wrong) const {
  static const char* const kNames[] = {"stale", "torn", "foreign"};
  const std::lock_guard lock(mutex_);
  std::string text = "offset " + std::to_string(Geometry::offset_of(wrong.cell)) + " holds " +
                     kNames[static_cast<int>(wrong.kind)] + " content, of write " +
                     std::to_string(wrong.number) + "; floor " +
                     std::to_string(floors_[wrong.cell]) + ", writes";
  const std::vector<Write>& history = histories_[wrong.cell];
  const size_t skipped = history.size() > 6 ? history.size() - 6 : 0;
  for (size_t i = skipped; i < history.size(); ++i)
    text += " [" + std::to_string(history[i].began) + ".." +
            (history[i].ended == kPending ? "" : std::to_string(history[i].ended)) +
            (history[i].number == 0 ? " zero" : "") +
            (history[i].acknowledged        ? "]"
             : history[i].ended == kPending ? " under way]"
                                            : " failed]");
  return text;
}

}  // namespace upload::soak
