// SPDX-License-Identifier: BSD-3-Clause
//
// What a disk may contain, when several clients write to it at the same time,
// some of their writes fail, and flushes make things stable.
//
// The disk is seen as cells: of one byte at its beginning, then of 16 bytes, so
// that there are requests of any size that are aligned to nothing, and of 512
// bytes in the rest. A cell has a history of the writes that it met, by a clock
// that ticks at the beginning and at the end of every operation. A write has a
// number, the time at which it began; a cell that it wrote holds that number and
// its own (see fill()), so that data in a wrong place is seen; of the cells of
// one byte, a byte that depends on the number. Zeroed is the number 0.
//
//   A cell may hold a write's number at a time T if no other write began after
//   that one was done and was acknowledged before T. A write that failed may
//   be there or not; but once a later one is acknowledged it is over: nothing
//   may overwrite newer data afterwards.
//
// A flush that succeeds raises the *floor* of the cells to the newest write that
// was acknowledged when it began: from then on the stable image holds nothing
// that was done before that write began. This goes for cells in which no write
// was under way meanwhile: such a write may take the cell from the connection
// that the older one went over, after that other connection was flushed, and
// then a server promises nothing about either. An acknowledged FUA write is the
// floor of its cells, without conditions.
//
// When nbdkit is killed, what was acknowledged above the floor may be there or
// not, like a write that failed.
//
// Thread safety: any function from any thread; one mutex. No errors.

#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace upload::soak {

// Counted in cells.
struct Cells {
  uint64_t first = 0;
  uint64_t count = 0;
  [[nodiscard]] uint64_t end() const { return first + count; }
};

// Which cells a disk has. A constant value.
class Geometry {
 public:
  static constexpr uint64_t kByteCells = 256;
  static constexpr uint64_t kFineCell = 16;
  // Those cells and the fine ones, in bytes and in cells.
  static constexpr uint64_t kFineBytes = 16 << 10;
  static constexpr uint64_t kFineCells = kByteCells + (kFineBytes - kByteCells) / kFineCell;
  static constexpr uint64_t kCell = 512;

  // `size` in bytes, a multiple of kCell and larger than kFineBytes.
  explicit Geometry(uint64_t size) : size_(size) {}

  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] uint64_t cells() const { return cell_at(size_); }
  // In bytes.
  [[nodiscard]] static uint64_t offset_of(uint64_t cell) {
    return cell < kByteCells   ? cell
           : cell < kFineCells ? kByteCells + (cell - kByteCells) * kFineCell
                               : kFineBytes + (cell - kFineCells) * kCell;
  }
  // The cell that begins at the offset.
  [[nodiscard]] static uint64_t cell_at(uint64_t offset) {
    return offset < kByteCells   ? offset
           : offset < kFineBytes ? kByteCells + (offset - kByteCells) / kFineCell
                                 : kFineCells + (offset - kFineBytes) / kCell;
  }
  [[nodiscard]] static uint64_t bytes_of(Cells cells) {
    return offset_of(cells.end()) - offset_of(cells.first);
  }

 private:
  uint64_t size_;
};

// A cell with content that it may not have.
struct Wrong {
  enum class Kind {
    stale,    // was there once, has been overwritten since
    torn,     // parts of several writes
    foreign,  // was never written there
  };
  Kind kind = Kind::foreign;
  uint64_t cell = 0;
  uint64_t number = 0;  // that was found; of a torn cell its first
};

class Model {
 public:
  using Time = uint64_t;

  // `keeps_hidden`: the server makes stable what a connection has carried when that
  // is flushed, also where another connection has hidden it since. Then a flush
  // raises the floor of every cell.
  explicit Model(uint64_t size, bool keeps_hidden = false);

  [[nodiscard]] const Geometry& geometry() const { return geometry_; }

  // An operation that changes nothing, until end().
  Time begin();
  void end(Time operation);

  // A write or zero of the cells; its number is what is returned, or 0.
  Time begin_write(Cells cells, bool zero);
  // It was answered. An acknowledged FUA write is stable.
  void end_write(Time operation, Cells cells, bool acknowledged, bool fua);

  // A flush that began then has succeeded. Before its end().
  void flushed(Time operation);

  // nbdkit was killed. No operation is under way.
  void crashed();

  // The bytes of the cells as `number` writes them.
  static void fill(Cells cells, uint64_t number, std::span<char> out);

  // What is wrong with the result of a read, before its end().
  [[nodiscard]] std::vector<Wrong> check_read(Time operation, Cells cells,
                                              std::span<const char> data) const;
  // The floors of the cells, to be asked for before the stable image is read.
  [[nodiscard]] std::vector<Time> floors(Cells cells) const;
  // What is wrong with these cells of the stable image, as it was read since
  // `floors`. A cell with another floor by now is for the next check.
  [[nodiscard]] std::vector<Wrong> check_stable(Cells cells, const std::vector<Time>& floors,
                                                std::span<const char> data) const;

  // The cell's history in one line.
  [[nodiscard]] std::string describe(const Wrong& wrong) const;

 private:
  static constexpr Time kPending = UINT64_MAX;
  struct Write {
    Time began;
    uint64_t number;
    Time ended;
    bool acknowledged;
  };
  struct Content;
  static Content content_of(uint64_t cell, const char* bytes);

  using Verdict = std::optional<Wrong::Kind>;  // nothing: right
  template <typename CellRule>
  [[nodiscard]] Verdict check_byte(uint64_t cell, char byte, Content& content,
                                   CellRule rule) const;
  template <typename CellRule>
  [[nodiscard]] std::vector<Wrong> check(Cells cells, std::span<const char> data,
                                         CellRule rule) const;

  [[nodiscard]] bool allowed(uint64_t cell, uint64_t number, Time at) const;
  [[nodiscard]] bool allowed_stable(uint64_t cell, uint64_t number) const;
  void raise_floor(uint64_t cell, Time flush);
  [[nodiscard]] bool written_since(uint64_t cell, Time since) const;
  [[nodiscard]] bool ever_written(uint64_t cell, uint64_t number) const;
  void prune(uint64_t cell);

  const Geometry geometry_;
  const bool keeps_hidden_;
  mutable std::mutex mutex_;  // all below
  Time now_ = 0;
  std::set<Time> active_;
  std::vector<Cells> writes_;  // by number
  std::vector<std::vector<Write>> histories_;
  std::vector<unsigned> under_way_;  // writes of the cell
  std::vector<Time> last_ended_;
  std::vector<Time> floors_;
};

}  // namespace upload::soak
