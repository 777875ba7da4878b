// SPDX-License-Identifier: BSD-3-Clause
//
// A client's loop: fill the slots with requests, wait until one is answered,
// look at the answer.
//
// Reads without replay. When a connection with unflushed changes dies the
// server's view goes back to older content, and a read over another
// connection may see that before the plugin can know of the loss. Such a read
// is counted as stale, provided that the server has lost something. With
// replay it is a violation unless the round allows it: the plugin has all
// unflushed content at hand.

#include "soak/client.h"

#include <libnbd.h>

#include <algorithm>
#include <cerrno>

namespace upload::soak {

using namespace std::chrono_literals;

namespace {

constexpr uint64_t kHotCells = 64;
constexpr uint64_t kWindowBytes = 4 << 20;
constexpr size_t kMostTexts = 8;

}  // namespace

void Findings::lost(uint64_t cells, const std::string& text) {
  lost_cells_ += cells;
  violated(text);
}

void Findings::violated(const std::string& text) {
  ++violations_;
  const std::lock_guard lock(mutex_);
  if (texts_.size() < kMostTexts) texts_.push_back(text);
}

std::vector<std::string> Findings::texts() const {
  const std::lock_guard lock(mutex_);
  return texts_;
}

void Shared::judge_stable(const std::vector<Wrong>& wrong, const char* when) {
  if (!wrong.empty())
    findings.lost(wrong.size(), std::to_string(wrong.size()) +
                                    " cells of the stable image are wrong " + when + ": " +
                                    describe(wrong.front()));
}

std::string Shared::describe(const Wrong& wrong) const {
  std::string text = model.describe(wrong) + "\n    requests there, in the server's order:";
  const uint64_t offset = Geometry::offset_of(wrong.cell);
  for (const testserver::Event& event : server.events()) {
    const bool all = event.op == testserver::Op::flush;
    const bool here = offset >= event.range.offset && offset < event.range.end();
    if (event.ticket != name || (!here && !all)) continue;
    text += " " + std::string(testserver::name_of(event.op)) + (event.flush ? "+flush" : "") +
            "@" + std::to_string(event.connection) + "=" + std::to_string(event.status);
  }
  return text;
}

Client::Client(const fixture::Nbdkit& nbdkit, Shared& shared, Random random)
    : shared_(shared),
      random_(random),
      nbd_(nbdkit, true, shared.name),
      depth_(random_.between(1, kMostDepth)),
      slots_(depth_) {
  // libnbd would refuse what is not aligned.
  const uint32_t strict = nbd_get_strict_mode(nbd_.handle());
  nbd_set_strict_mode(nbd_.handle(), strict & ~LIBNBD_STRICT_ALIGN);
}

void Client::run() {
  for (uint64_t issued = 0;;) {
    for (Slot& slot : slots_) {
      const bool more =
          issued < shared_.style.operations && failures_in_a_row_ < kGiveUp && !dead_;
      if (slot.busy || !more) continue;
      choose(slot);
      issue(slot);
      ++issued;
    }
    if (std::none_of(slots_.begin(), slots_.end(), [](const Slot& s) { return s.busy; })) return;
    wait();
    for (Slot& slot : slots_)
      if (slot.busy && slot.done) collect(slot);
  }
}

bool Client::flush() {
  Slot& slot = slots_[0];
  slot.what = What::flush;
  issue(slot);
  while (!slot.done) wait();
  collect(slot);
  return slot.error == 0;
}

void Client::read_all() {
  Slot& slot = slots_[0];
  const uint64_t size = shared_.model.geometry().size();
  for (uint64_t at = 0; at < size; at += kWindowBytes / 4) {
    slot.what = What::read;
    const uint64_t first = Geometry::cell_at(at);
    slot.cells = {first, Geometry::cell_at(std::min(size, at + kWindowBytes / 4)) - first};
    issue(slot);
    while (!slot.done) wait();
    collect(slot);
  }
}

std::string Client::doing() const {
  static const char* const kNames[] = {"write", "zero", "read", "flush"};
  std::string text;
  const std::lock_guard lock(mutex_);
  for (const Slot& slot : slots_) {
    if (!slot.busy) continue;
    text += text.empty() ? "" : ", ";
    text += kNames[static_cast<int>(slot.what)];
    if (slot.what != What::flush)
      text += " of " + std::to_string(Geometry::bytes_of(slot.cells)) + " at " +
              std::to_string(Geometry::offset_of(slot.cells.first));
    text += slot.fua ? " (FUA)" : "";
  }
  return text.empty() ? "nothing" : text;
}

// --- Requests -------------------------------------------------------------

Cells Client::random_cells() {
  const uint64_t all = shared_.model.geometry().cells();
  const Style& style = shared_.style;
  Cells cells;
  const uint64_t size = random_.below(100);
  cells.count = size < style.large ? random_.between(64, 2048)
                : size < 25        ? random_.between(1, 64)
                                   : random_.between(1, 8);
  if (random_.percent(style.hot)) {
    // Unaligned, aligned, or over the border between both.
    const uint64_t places[] = {0, Geometry::kFineCells - kHotCells / 2, Geometry::kFineCells};
    cells.count = std::min(cells.count, kHotCells);
    cells.first = random_.any_of(places) + random_.below(kHotCells - cells.count + 1);
  } else {
    cells.first = random_.below(all - cells.count + 1);
  }
  return cells;
}

void Client::choose(Slot& slot) {
  const Style& style = shared_.style;
  const uint64_t kind = random_.below(100);
  slot.cells = random_cells();
  slot.fua = random_.percent(style.fua);
  if (kind < style.flush)
    slot.what = What::flush;
  else if (kind < style.flush + style.read)
    slot.what = What::read;
  else if (kind < style.flush + style.read + style.zero)
    slot.what = What::zero;
  else
    slot.what = What::write;
  if (slot.what == What::read || slot.what == What::flush) slot.fua = false;
}

void Client::issue(Slot& slot) {
  const bool changes = slot.what == What::write || slot.what == What::zero;
  const uint64_t offset = Geometry::offset_of(slot.cells.first);
  const uint64_t length = Geometry::bytes_of(slot.cells);
  const Model::Time began = changes
                                ? shared_.model.begin_write(slot.cells, slot.what == What::zero)
                                : shared_.model.begin();
  {
    const std::lock_guard lock(mutex_);
    slot.began = began;
    slot.busy = true;
  }
  slot.done = false;
  slot.error = 0;
  slot.fua = slot.fua && changes;
  nbd_completion_callback completion = {};
  completion.user_data = &slot;
  completion.callback = [](void* user, int* error) -> int {
    auto* const done = static_cast<Slot*>(user);
    done->error = *error;
    done->done = true;
    return 1;
  };
  nbd_handle* const h = nbd_.handle();
  const uint32_t flags = slot.fua ? LIBNBD_CMD_FLAG_FUA : 0;
  int64_t cookie = -1;
  switch (slot.what) {
    case What::write:
      slot.buffer.resize(length);
      Model::fill(slot.cells, began, slot.buffer);
      cookie = nbd_aio_pwrite(h, slot.buffer.data(), length, offset, completion, flags);
      break;
    case What::zero: cookie = nbd_aio_zero(h, length, offset, completion, flags); break;
    case What::read:
      slot.buffer.resize(length);
      cookie = nbd_aio_pread(h, slot.buffer.data(), length, offset, completion, 0);
      break;
    case What::flush: cookie = nbd_aio_flush(h, completion, 0); break;
  }
  if (cookie == -1) {
    slot.error = EIO;
    slot.done = true;
    dead_ = true;
  }
}

void Client::wait() {
  if (std::any_of(slots_.begin(), slots_.end(), [](const Slot& s) { return s.busy && s.done; }))
    return;
  if (!dead_ && nbd_poll(nbd_.handle(), -1) != -1) return;
  // libnbd has completed what was in flight; and if not, it won't any more.
  if (!dead_ && !shared_.killed)
    shared_.findings.violated("the NBD connection was lost: " + nbd_.error());
  dead_ = true;
  for (Slot& slot : slots_) {
    if (!slot.busy || slot.done) continue;
    slot.error = EIO;
    slot.done = true;
  }
}

// --- Answers --------------------------------------------------------------

void Client::collect(Slot& slot) {
  Model& model = shared_.model;
  Findings& findings = shared_.findings;
  const bool ok = slot.error == 0;
  ++findings.operations;
  failures_in_a_row_ = ok ? 0 : failures_in_a_row_ + 1;
  if (!ok && !shared_.killed) {
    ++findings.failed;
    if (!shared_.errors_allowed)
      findings.violated("a client has seen an error (" + std::to_string(slot.error) +
                        "): " + doing());
  }
  switch (slot.what) {
    case What::write:
    case What::zero: {
      const bool stable = slot.fua || shared_.stable_on_reply;
      model.end_write(slot.began, slot.cells, ok, stable);
      if (ok && stable) check_stable(slot.cells);
      break;
    }
    case What::read:
      if (ok) check_read(slot);
      model.end(slot.began);
      break;
    case What::flush:
      if (ok) {
        ++findings.flushes;
        model.flushed(slot.began);
        check_after_flush(slot.began);
      }
      model.end(slot.began);
      break;
  }
  const std::lock_guard lock(mutex_);
  slot.busy = false;
}

void Client::check_read(const Slot& slot) {
  for (const Wrong& wrong : shared_.model.check_read(slot.began, slot.cells, slot.buffer)) {
    const bool may_be_old = wrong.kind != Wrong::Kind::foreign && shared_.stale_reads_allowed;
    if (may_be_old && shared_.server.wait_until(
                          [](const testserver::Counters& c) { return c.bytes_lost > 0; }, 5s)) {
      ++shared_.findings.stale_reads;
    } else {
      shared_.findings.violated("a read was wrong: " + shared_.describe(wrong));
      return;
    }
  }
}

// After a flush: all of a small disk, and of a large one the busiest place and
// another that `seed` chooses. The rest is checked at the end.
void Client::check_after_flush(uint64_t seed) {
  const uint64_t size = shared_.model.geometry().size();
  const auto check = [&](uint64_t from, uint64_t to) {
    const uint64_t first = Geometry::cell_at(from);
    check_stable({first, Geometry::cell_at(to) - first});
  };
  if (size <= 2 * kWindowBytes) {
    check(0, size);
  } else {
    check(0, 4 * Geometry::kFineBytes);
    const uint64_t from = seed % (size / kWindowBytes) * kWindowBytes;
    check(from, std::min(size, from + kWindowBytes));
  }
}

void Client::check_stable(Cells cells) {
  if (shared_.flush_is_local) return;
  const std::vector<Model::Time> floors = shared_.model.floors(cells);
  const std::vector<char> data = shared_.server.read_stable(
      shared_.name, Geometry::offset_of(cells.first), Geometry::bytes_of(cells));
  shared_.judge_stable(shared_.model.check_stable(cells, floors, data), "after a flush");
}

}  // namespace upload::soak
