// SPDX-License-Identifier: BSD-3-Clause
//
// Exclusion and batching. The number of changes is bounded by nbdkit's worker
// threads, so blocked changes, which are rare, are looked through one by one;
// everything on the common path is a look-up in a map.

#include "volume/change_queue.h"

#include <algorithm>
#include <cassert>

#include "volume/pieces.h"

namespace upload::volume {

void ChangeQueue::add(Change& change) {
  assert(change.state == Change::State::kNew && change.range.length > 0);
  change.sequence = ++last_sequence_;
  if (!is_free(change.range)) {
    change.state = Change::State::kBlocked;
    blocked_.push_back(&change);
  } else {
    make_ready(change);
  }
}

bool ChangeQueue::is_free(ByteRange range) const {
  const bool behind_blocked = std::any_of(
      blocked_.begin(), blocked_.end(),
      [&](const Change* earlier) { return blocks_of(earlier->range).overlaps(range); });
  return !behind_blocked && !overlaps_active(range);
}

ByteRange ChangeQueue::free_from(uint64_t from) const {
  auto next = active_.upper_bound(from);
  if (next != active_.begin())
    from = std::max(from, blocks_of(std::prev(next)->second->range).end());
  while (next != active_.end() && blocks_of(next->second->range).offset <= from)
    from = std::max(from, blocks_of((next++)->second->range).end());
  const uint64_t end = next == active_.end() ? UINT64_MAX : blocks_of(next->second->range).offset;
  return {from, end - from};
}

bool ChangeQueue::overlaps_active(ByteRange range) const {
  // Active changes don't overlap: the last that begins before the end of
  // `range` is the only one that has to be looked at.
  const ByteRange blocks = blocks_of(range);
  const auto after = active_.lower_bound(blocks.end());
  return after != active_.begin() && blocks_of(std::prev(after)->second->range).overlaps(blocks);
}

void ChangeQueue::make_ready(Change& change) {
  assert(!overlaps_active(change.range));  // invariant 7
  active_.emplace(change.range.offset, &change);
  if (change.exclusive) {
    change.state = Change::State::kTaken;
    change.turn.notify_one();
  } else {
    change.state = Change::State::kReady;
    change.to_spool = change.to_spool || spooling_;
    ready_[change.to_spool ? 1 : 0].emplace(change.sequence, &change);
  }
}

void ChangeQueue::set_spooling(bool spooling) {
  spooling_ = spooling;
  if (!spooling) return;
  for (const auto& [sequence, change] : ready_[0]) change->to_spool = true;
  ready_[1].merge(ready_[0]);
  assert(ready_[0].empty());
}

Change* ChangeQueue::oldest_ready(bool to_spool) const {
  const auto& ready = ready_[to_spool ? 1 : 0];
  return ready.empty() ? nullptr : ready.begin()->second;
}

std::vector<Change*> ChangeQueue::waiting() const {
  std::vector<Change*> changes(blocked_.begin(), blocked_.end());
  for (const auto& ready : ready_)
    for (const auto& [sequence, change] : ready) changes.push_back(change);
  return changes;
}

std::vector<Change*> ChangeQueue::all() const {
  std::vector<Change*> changes(blocked_.begin(), blocked_.end());
  for (const auto& [offset, change] : active_) changes.push_back(change);
  return changes;
}

void ChangeQueue::check() const {
  size_t ready = 0;
  uint64_t end = 0;
  for (const auto& [offset, change] : active_) {
    assert(offset == change->range.offset &&
           blocks_of(change->range).offset >= end);  // invariant 7
    end = blocks_of(change->range).end();
    const bool taken = change->state == Change::State::kTaken;
    assert(taken || change->state == Change::State::kReady);
    assert(ready_[change->to_spool ? 1 : 0].contains(change->sequence) == !taken);
    ready += taken ? 0 : 1;
  }
  assert(ready_[0].size() + ready_[1].size() == ready);
  // Whoever is blocked has something to wait for.
  for (auto it = blocked_.begin(); it != blocked_.end(); ++it) {
    assert((*it)->state == Change::State::kBlocked);
    assert(overlaps_active((*it)->range) ||
           std::any_of(blocked_.begin(), it,
                       [&](const Change* earlier) { return overlap(*earlier, **it); }));
  }
}

void ChangeQueue::finish(const std::vector<Change*>& changes) {
  for (Change* change : changes) {
    if (change->state == Change::State::kBlocked) {
      blocked_.remove(change);
    } else {
      assert(change->state == Change::State::kReady || change->state == Change::State::kTaken);
      active_.erase(change->range.offset);
      ready_[change->to_spool ? 1 : 0].erase(change->sequence);
    }
    change->state = Change::State::kDone;
  }
  unblock();
}

void ChangeQueue::unblock() {
  std::vector<const Change*> still_blocked;
  for (auto it = blocked_.begin(); it != blocked_.end();) {
    Change* const change = *it;
    const bool behind =
        std::any_of(still_blocked.begin(), still_blocked.end(),
                    [&](const Change* earlier) { return overlap(*earlier, *change); });
    if (behind || overlaps_active(change->range)) {
      still_blocked.push_back(change);
      ++it;
    } else {
      it = blocked_.erase(it);
      make_ready(*change);
    }
  }
}

// --- Batches --------------------------------------------------------------

bool ChangeQueue::is_data(const Change& change) const {
  return !change.is_zero() || limits_.zero_is_data || blocks_of(change.range) != change.range;
}

// The ready change that begins where `change` ends, if they can go together.
Change* ChangeQueue::ready_after(const Change& change) const {
  const auto next = active_.find(change.range.end());
  if (next == active_.end() || next->second->state != Change::State::kReady ||
      next->second->to_spool || next->second->stable != change.stable)
    return nullptr;
  return next->second;
}

Change* ChangeQueue::ready_before(const Change& change) const {
  const auto next = active_.lower_bound(change.range.offset);
  if (next == active_.begin()) return nullptr;
  Change* const before = std::prev(next)->second;
  if (before->range.end() != change.range.offset || before->state != Change::State::kReady ||
      before->to_spool || before->stable != change.stable)
    return nullptr;
  return before;
}

// The zeroes around `leader`, as many as go into one request.
std::vector<Change*> ChangeQueue::zero_run(Change& leader) const {
  std::vector<Change*> run = {&leader};
  uint64_t total = leader.range.length;
  const auto fits = [&](const Change* next) {
    return next != nullptr && !is_data(*next) && total + next->range.length <= limits_.max_zero;
  };
  for (Change* next = ready_after(leader); fits(next); next = ready_after(*next)) {
    run.push_back(next);
    total += next->range.length;
  }
  for (Change* next = ready_before(leader); fits(next); next = ready_before(*next)) {
    run.insert(run.begin(), next);
    total += next->range.length;
  }
  return run;
}

// Lengthens a run of data at one end. Zeroes are taken only with the data
// behind them.
void ChangeQueue::extend(std::vector<Change*>& run, bool forward) const {
  const auto step = [&](const Change& change) {
    return forward ? ready_after(change) : ready_before(change);
  };
  uint64_t total = blocks_of(range_of(run)).length;
  std::vector<Change*> pending;
  uint64_t pending_zero = 0;
  for (Change* next = step(forward ? *run.back() : *run.front()); next != nullptr;
       next = step(*next)) {
    total += blocks_of(next->range).length;
    if (total > limits_.max_request) break;
    pending.push_back(next);
    if (!is_data(*next)) {
      pending_zero += next->range.length;
      if (pending_zero > limits_.small_zero) break;
      continue;
    }
    if (forward)
      run.insert(run.end(), pending.begin(), pending.end());
    else
      run.insert(run.begin(), pending.rbegin(), pending.rend());
    pending.clear();
    pending_zero = 0;
  }
}

std::vector<Change*> ChangeQueue::take_batch(Change& leader) {
  assert(leader.state == Change::State::kReady && !leader.to_spool);
  std::vector<Change*> run = {&leader};
  bool data = is_data(leader);
  if (!data) {
    run = zero_run(leader);
    const Change* const before = ready_before(*run.front());
    const Change* const after = ready_after(*run.back());
    data =
        before != nullptr && after != nullptr && is_data(*before) && is_data(*after) &&
        range_of(run).length <= limits_.small_zero &&
        range_of(run).length + blocks_of(before->range).length + blocks_of(after->range).length <=
            limits_.max_request;
  }
  if (data) {
    extend(run, true);
    extend(run, false);
  }
  for (size_t i = 0; i < run.size(); ++i) {
    assert(i == 0 || run[i - 1]->range.end() == run[i]->range.offset);
    run[i]->state = Change::State::kTaken;
    ready_[0].erase(run[i]->sequence);
  }
  return run;
}

// --- The spool ------------------------------------------------------------

std::vector<Change*> ChangeQueue::take_for_spool(uint64_t most) {
  std::vector<Change*> taken;
  uint64_t total = 0;
  for (auto it = ready_[1].begin(); it != ready_[1].end(); it = ready_[1].erase(it)) {
    Change* const change = it->second;
    total += change->is_zero() ? 0 : change->range.length;
    if (!taken.empty() && total > most) break;
    change->state = Change::State::kTaken;
    taken.push_back(change);
  }
  return taken;
}

void ChangeQueue::put_back(const std::vector<Change*>& changes) {
  for (Change* change : changes) {
    assert(change->state == Change::State::kTaken);
    change->state = Change::State::kReady;
    change->to_spool = true;
    ready_[1].emplace(change->sequence, change);
  }
}

}  // namespace upload::volume
