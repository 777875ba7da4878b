// SPDX-License-Identifier: BSD-3-Clause
//
// A spool that is empty has nothing to send, but tells that its process may have
// requests under way (Instance::wait_for_late_copies). Those of the same path that
// another nbdkit uses are none of our business: it sends them.

#include "process/leftovers.h"

#include <algorithm>
#include <cinttypes>
#include <ctime>

#include "base/format.h"
#include "base/log.h"

namespace upload {

std::string time_text(int64_t when) {
  const time_t seconds = when;
  tm parts = {};
  char text[64] = "";
  if (gmtime_r(&seconds, &parts) != nullptr)
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text;
}

Status Leftovers::find() {
  if (config_.spool.empty()) return {};
  const http::Url& url = config_.origin.url;
  auto place =
      environment_.take_spool_place(config_.spool, {url.host + ":" + url.port, url.path});
  if (!place.ok()) return place.status();
  own_.place = std::move(place.value());
  if (Status status = look_into(own_); !status.ok()) return status;
  auto places = own_.place->others();
  if (!places.ok()) return places.status();
  for (auto& other : places.value()) {
    Spool spool;
    spool.place = std::move(other);
    if (Status status = look_into(spool); !status.ok()) return status;
    others_.push_back(std::move(spool));
  }
  return {};
}

// Of a disk of any size: if it is empty it does not matter.
Status Leftovers::look_into(Spool& spool) {
  spool.was_there = spool.place->exists();
  if (!spool.was_there) return {};
  auto store = spool.place->open(config_.origin.url.redacted(), 0, true);
  if (!store.ok()) return store.status();
  journal::warn_of_torn_tail(*store.value(), spool.place->path());
  auto rows = store.value()->rows();
  if (!rows.ok()) return rows.status();
  for (const journal::SpoolRow& row : rows.value()) spool.bytes += row.range.length;
  spool.changes = rows.value().size();
  spool.about = store.value()->about();
  return {};
}

bool Leftovers::to_send() const {
  switch (config_.spool_leftovers) {
    case SpoolLeftovers::kFail: return own_.changes != 0;
    case SpoolLeftovers::kSend: return own_.changes != 0 || has_changes(others_);
    case SpoolLeftovers::kDiscard: break;
  }
  return false;
}

const std::string& Leftovers::path() const {
  for (const Spool& other : others_)
    if (own_.changes == 0 && other.changes != 0) return other.place->path();
  return own_.place->path();
}

bool Leftovers::has_changes(const std::vector<Spool>& spools) {
  return std::any_of(spools.begin(), spools.end(),
                     [](const Spool& spool) { return spool.changes != 0; });
}

// What is empty and of another size is of another disk. What is empty and of
// this one leaves its mark in our own spool before it goes.
Status Leftovers::settle_empty(uint64_t size) {
  if (own_.was_there && own_.changes == 0 && own_.about.size != size) own_.place->remove();
  unclean_ = own_.was_there;
  for (const Spool& other : others_) {
    if (other.changes != 0 || other.about.size != size) continue;
    unclean_ = true;
    const auto store =
        own_.place->open(config_.origin.url.redacted(), own_.changes == 0 ? size : 0, false);
    if (!store.ok()) return store.status();
    other.place->remove();
  }
  std::erase_if(others_, [](const Spool& other) { return other.changes == 0; });
  return {};
}

Status Leftovers::decide(uint64_t size) {
  if (!own_.place) return {};
  if (Status status = settle_empty(size); !status.ok()) return status;
  std::erase_if(others_, [size](const Spool& other) {
    if (other.about.size == size) return false;
    log::warning("%s, is left alone: this disk has %" PRIu64 " bytes", describe(other).c_str(),
                 size);
    return true;
  });
  Status status;
  if (config_.spool_leftovers == SpoolLeftovers::kDiscard) {
    if (own_.changes != 0) discard(own_);
    own_.changes = 0;
    for (const Spool& other : others_) discard(other);
  } else if (!others_.empty()) {
    status = config_.spool_leftovers == SpoolLeftovers::kSend ? send_others() : undecided();
  }
  // Locks go, also when nbdkit ends without unloading us.
  others_.clear();
  if (!status.ok()) own_.place.reset();
  return status;
}

void Leftovers::discard(const Spool& spool) {
  log::warning("%s, is discarded (spool-leftovers=discard)", describe(spool).c_str());
  spool.place->remove();
}

// One can become this URL's. Of two, nobody knows which is newer where.
Status Leftovers::send_others() {
  if (own_.changes != 0 || others_.size() > 1)
    return {Kind::kSpool,
            "spool-leftovers=send: more than one spool has changes for this path: " +
                describe(own_.changes != 0 ? own_ : others_[1]) + ", and " +
                describe(others_[0]) + "; move those away that are not to be sent"};
  if (Status status = own_.place->take_over(*others_[0].place); !status.ok()) return status;
  log::warning("%s, is now %s (spool-leftovers=send)", describe(others_[0]).c_str(),
               own_.place->path().c_str());
  own_.changes = others_[0].changes;
  return {};
}

Status Leftovers::undecided() const {
  std::string text =
      "another host's spool has changes for the same path, which may be of this "
      "disk and older than what is on it: ";
  for (const Spool& other : others_) text += describe(other) + "; ";
  return {Kind::kSpool, text +
                            "say spool-leftovers=send to send them first, or "
                            "spool-leftovers=discard to drop them"};
}

std::string Leftovers::describe(const Spool& spool) {
  return format("the spool %s of %s, with %zu changes of together %" PRIu64
                " bytes, the last of %s, for a disk of %" PRIu64 " bytes",
                spool.place->path().c_str(), spool.about.url.c_str(), spool.changes, spool.bytes,
                time_text(spool.about.changed_at).c_str(), spool.about.size);
}

}  // namespace upload
