// SPDX-License-Identifier: BSD-3-Clause
//
// A blob's state, and how a change and its conditions become one step.
//
// As in Azure a lease that ends while a request's body is still on its way refuses the request:
// the conditions are looked at when the header was read, so that refusals come early, and once more
// when the change is applied. A change that is applied late is no exception.
//
// Invariant: the tag is a new one after every change of data or metadata, and stays when only the
// lease changes.
//
// Threads: any. A blob's lock is held while its bytes change, so changes of one blob do not run
// side by side; reads take no lock. Errors: Azure's refusals.

#include "blob.h"

#include <atomic>
#include <cstdio>
#include <utility>

#include "ticket.h"

namespace upload::testserver {

namespace {

std::string new_tag() {
  static std::atomic<std::uint64_t> last{0x8DD0000000000};
  char text[32];
  std::snprintf(text, sizeof text, "\"0x%llX\"", static_cast<unsigned long long>(++last));
  return text;
}

std::optional<Refusal> check_tag(const BlobView& view, const BlobConditions& conditions) {
  const std::string& wanted = conditions.if_match;
  if (wanted.empty() || wanted == "*" || wanted == view.etag) {
    return std::nullopt;
  }
  Refusal refusal{412, "The condition specified using HTTP conditional header(s) is not met."};
  refusal.code = "ConditionNotMet";
  return refusal;
}

}  // namespace

Blob::Blob() { changed({}); }

BlobView Blob::view() const {
  const std::lock_guard lock(mutex_);
  return view_;
}

std::optional<Refusal> Blob::check(Clock::time_point now,
                                   const BlobConditions& conditions) const {
  if (auto refusal = view_.lease.check_write(now, conditions.lease_id)) {
    return refusal;
  }
  return check_tag(view_, conditions);
}

void Blob::changed(Clock::time_point now) {
  view_.etag = new_tag();
  view_.modified = std::chrono::system_clock::now();
  view_.lease.written(now);
}

std::optional<Refusal> Blob::check_write(Clock::time_point now,
                                         const BlobConditions& conditions) const {
  const std::lock_guard lock(mutex_);
  return check(now, conditions);
}

std::optional<Refusal> Blob::check_read(Clock::time_point now,
                                        const BlobConditions& conditions) const {
  const std::lock_guard lock(mutex_);
  if (auto refusal = view_.lease.check_read(now, conditions.lease_id)) {
    return refusal;
  }
  return check_tag(view_, conditions);
}

Blob::Outcome Blob::write(Clock::time_point now, const BlobConditions& conditions,
                          const ByteRange& range, bool zero,
                          const std::function<std::error_code()>& apply) {
  const std::lock_guard lock(mutex_);
  Outcome outcome{check(now, conditions), {}};
  if (outcome.refusal) {
    return outcome;
  }
  outcome.error = apply();
  if (outcome.ok()) {
    zero ? pages_.clear(range) : pages_.write(range);
    changed(now);
  }
  return outcome;
}

Blob::Outcome Blob::wipe(Clock::time_point now, const BlobConditions& conditions,
                         Metadata metadata, const std::function<std::error_code()>& apply) {
  const std::lock_guard lock(mutex_);
  Outcome outcome{check(now, conditions), {}};
  if (outcome.refusal) {
    return outcome;
  }
  outcome.error = apply();
  if (outcome.ok()) {
    pages_ = {};
    view_.metadata = std::move(metadata);
    changed(now);
  }
  return outcome;
}

std::optional<Refusal> Blob::set_metadata(Clock::time_point now, const BlobConditions& conditions,
                                          Metadata metadata) {
  const std::lock_guard lock(mutex_);
  if (auto refusal = check(now, conditions)) {
    return refusal;
  }
  view_.metadata = std::move(metadata);
  changed(now);
  return std::nullopt;
}

std::optional<Refusal> Blob::change_lease(
    const std::function<std::optional<Refusal>(BlobLease&)>& action) {
  const std::lock_guard lock(mutex_);
  return action(view_.lease);
}

void Blob::filled(const ByteRange& range) {
  const std::lock_guard lock(mutex_);
  pages_.write(range);
}

std::vector<ByteRange> Blob::pages(const ByteRange& range, std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  return pages_.list(range, limit);
}

std::shared_ptr<Blob> Blobs::of(Ticket& ticket) {
  const std::lock_guard lock(mutex_);
  if (auto known = ticket.blob()) {
    return known;
  }
  auto blob = std::make_shared<Blob>();
  std::string error;
  const auto session = ticket.backend().open(
      0, [] { return false; }, error);
  std::vector<Extent> extents;
  // Storage that fails here fails again when it is used, and says so then.
  if (session && !session->extents(extents)) {
    for (const Extent& extent : extents) {
      if (!extent.zero) {
        blob->filled(extent.range);
      }
    }
  }
  ticket.set_blob(blob);
  return blob;
}

Blob::Clock::time_point Blobs::now() const {
  const std::lock_guard lock(mutex_);
  return Blob::Clock::now() + ahead_;
}

void Blobs::advance(std::chrono::seconds time) {
  const std::lock_guard lock(mutex_);
  ahead_ += time;
}

}  // namespace upload::testserver
