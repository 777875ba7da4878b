// SPDX-License-Identifier: BSD-3-Clause
//
// SpoolIndex: which rows are in the spool, and which bytes of the disk they
// are about.
//
// A row may be dropped from the store when nothing older than it is left
// there: what it hides of older rows would show again. So rows are sent to
// the server, and dropped, from the oldest on; those that hide nothing of each other's, in
// any order. (A row of which newer rows hide everything is dead, and may go at any time: what
// it hid, they hide.)
//
// A data structure without threads or I/O: its owner guards it.

#pragma once

#include <boost/icl/interval_map.hpp>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "base/byte_range.h"
#include "journal/store.h"

namespace upload::journal {

class SpoolIndex {
 public:
  // What a change of so many bytes of data counts for in spool-size=.
  [[nodiscard]] static uint64_t cost(uint64_t bytes) { return bytes + kOverhead; }

  void add(const SpoolRow& row);
  void remove(const SpoolRow& row);
  [[nodiscard]] const SpoolRow* find(uint64_t id) const;

  [[nodiscard]] bool empty() const { return by_age_.empty(); }
  [[nodiscard]] size_t count() const { return by_age_.size(); }
  // In bytes, as cost() counts.
  [[nodiscard]] uint64_t used() const { return used_; }
  // The server's content of some byte of the range is not the newest, or will
  // not be after the rows there are sent.
  [[nodiscard]] bool overlaps(ByteRange range) const;
  // Newer rows than `row` hide some byte of `range`. `row` may go before older rows: of
  // none does it hide what newer rows don't. For checks: they take as long as there are
  // rows.
  [[nodiscard]] bool hides(const SpoolRow& row, ByteRange range) const;
  [[nodiscard]] bool may_go(const SpoolRow& row) const;
  // Asserts that no row of a group hides anything of an older one that is not in the group.
  // Takes as long as there are rows.
  void check() const;
  struct Most {
    uint64_t data;  // bytes
    uint64_t zero;  // bytes
    size_t rows;
    uint64_t block;  // bytes; a row is about all blocks that it touches
  };
  // The oldest rows that may go together, and be dropped whenever others are: no busy ones,
  // nor any that touches a block of an older row that is not among them. Not more than so much,
  // but one at least if there is one. Rows are looked through up to a bound.
  [[nodiscard]] std::vector<SpoolRow> oldest(const Most& most) const;
  // A busy row is on its way: to the server, with the others of a group, or out of the store,
  // with kDropping.
  static constexpr uint64_t kDropping = 0;
  void set_busy(uint64_t id, uint64_t group);
  void set_idle(uint64_t id);
  [[nodiscard]] bool is_busy(uint64_t id) const { return busy_.contains(id); }

 private:
  static constexpr uint64_t kOverhead = 512;
  static constexpr size_t kMostLookedThrough = 8192;
  using Age = std::pair<uint64_t, uint64_t>;  // sequence, id
  using Interval = boost::icl::right_open_interval<uint64_t>;
  using Cover =
      boost::icl::interval_map<uint64_t, uint32_t, boost::icl::partial_absorber, std::less,
                               boost::icl::inplace_plus, boost::icl::inter_section, Interval>;

  static uint64_t cost_of(const SpoolRow& row) { return cost(row.zero ? 0 : row.range.length); }

  std::map<Age, SpoolRow> by_age_;
  std::map<uint64_t, Age> by_id_;
  std::map<uint64_t, uint64_t> busy_;  // group, by id
  Cover cover_;                        // how many rows are about a byte
  uint64_t used_ = 0;
};

}  // namespace upload::journal
