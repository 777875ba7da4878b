// SPDX-License-Identifier: BSD-3-Clause
//
// ChangeQueue: the changes that wait to be sent or are being sent, and which
// of them go together.
//
// A change is blocked while an earlier change that overlaps it is not done
// (invariant 7), then ready, then taken by a leader as part of a batch, then
// done. Changes that are ready or taken never overlap each other. Where the server takes whole
// blocks only, changes overlap that touch the same block: to change a part of one is to read
// it and to write it whole.

//
// A batch is a run of adjacent changes that becomes one request: data (with
// small zeroes between data carried along as data), or zeroes.
//
// Changes that belong into the spool instead of a request go by themselves:
// they are ready side by side with the others, and taken many at a time.
//
// A data structure without threads, locks or I/O: its owner guards it. The
// changes belong to the threads that wait for them.

#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <vector>

#include "base/byte_range.h"
#include "base/mutex.h"
#include "base/status.h"
#include "upstream/lease.h"

namespace upload::volume {

struct Change {
  enum class State { kNew, kBlocked, kReady, kTaken, kDone };

  // Constant once it is in the queue.
  ByteRange range;
  const void* data = nullptr;  // range.length bytes; null: zeroes
  bool stable = false;         // when it is acknowledged: it goes with others that are so only
  // Goes with no others, and is taken as soon as it is ready: it only holds
  // its range.
  bool exclusive = false;

  // The queue's.
  State state = State::kNew;
  // From 1 on, in the order in which changes are added.
  uint64_t sequence = 0;
  // It goes into the spool.
  bool to_spool = false;

  // The volume's. What is reserved for it, in bytes, and not yet used.
  uint64_t memory = 0;
  uint64_t room = 0;
  // If it leads: its batch, and the lease or why there is none. At the end:
  // how it ended.
  bool leads = false;
  std::optional<upstream::Lease> lease;
  std::vector<Change*> batch;
  Status result;
  CondVar turn;

  [[nodiscard]] bool is_zero() const { return data == nullptr; }
};

struct BatchLimits {
  uint64_t max_request = 0;   // bytes of data in a batch of several changes
  uint64_t max_zero = 0;      // bytes of zeroes, likewise
  uint64_t small_zero = 0;    // zeroes up to so many bytes go along as data
  bool zero_is_data = false;  // the server can't zero: all zeroes are data
  uint64_t block = 1;         // bytes; see target::Traits::alignment
};

class ChangeQueue {
 public:
  explicit ChangeQueue(const BatchLimits& limits) : limits_(limits) {}

  // Enters a new change: it becomes ready or blocked.
  void add(Change& change);

  // The sequence of the change that was added last.
  [[nodiscard]] uint64_t last_sequence() const { return last_sequence_; }
  // Changes that are added have higher ones.
  void set_last_sequence(uint64_t sequence) { last_sequence_ = sequence; }
  // While it is set every change that is ready, or becomes so, goes to the spool.
  void set_spooling(bool spooling);

  // Of those that spool, or of the others:
  // the ready change that was added first; null: none.
  [[nodiscard]] Change* oldest_ready(bool to_spool = false) const;
  [[nodiscard]] size_t ready_count(bool to_spool = false) const {
    return ready_[to_spool ? 1 : 0].size();
  }
  [[nodiscard]] bool empty() const { return active_.empty() && blocked_.empty(); }
  // The first bytes from `from` on, in whole blocks, that no change has which is ready or taken.
  [[nodiscard]] ByteRange free_from(uint64_t from) const;
  // A change of the range would not be blocked.
  [[nodiscard]] bool is_free(ByteRange range) const;

  // Takes the run of adjacent ready changes around `leader`, which is ready.
  // In the order of their offsets.
  [[nodiscard]] std::vector<Change*> take_batch(Change& leader);
  // Takes ready changes that spool, in the order in which they were added, up
  // to `most` bytes of data or the first of them.
  [[nodiscard]] std::vector<Change*> take_for_spool(uint64_t most);
  // Changes that were taken are ready again, and spool.
  void put_back(const std::vector<Change*>& changes);

  // Removes changes that are taken, ready or blocked; they are done. Changes
  // that they blocked become ready.
  void finish(const std::vector<Change*>& changes);

  // Every change that is not taken.
  [[nodiscard]] std::vector<Change*> waiting() const;
  [[nodiscard]] std::vector<Change*> all() const;
  // Asserts what holds between the changes.
  void check() const;

 private:
  using Active = std::map<uint64_t, Change*>;

  [[nodiscard]] ByteRange blocks_of(ByteRange range) const {
    return upload::blocks_of(range, limits_.block);
  }
  [[nodiscard]] bool overlap(const Change& one, const Change& other) const {
    return blocks_of(one.range).overlaps(other.range);
  }
  [[nodiscard]] bool overlaps_active(ByteRange range) const;
  void make_ready(Change& change);
  void unblock();
  [[nodiscard]] Change* ready_after(const Change& change) const;
  [[nodiscard]] Change* ready_before(const Change& change) const;
  // It goes as data: a zero of a part of a block does, with the rest of it.
  [[nodiscard]] bool is_data(const Change& change) const;
  std::vector<Change*> zero_run(Change& leader) const;
  void extend(std::vector<Change*>& run, bool forward) const;

  const BatchLimits limits_;
  uint64_t last_sequence_ = 0;
  Active active_;                         // ready or taken, by offset
  std::map<uint64_t, Change*> ready_[2];  // by sequence; [1]: those that spool
  bool spooling_ = false;
  std::list<Change*> blocked_;  // oldest first
};

}  // namespace upload::volume
