// SPDX-License-Identifier: BSD-3-Clause
//
// What a lease's state allows, as azurite and Azure's documentation have it.
//
// A state that depends on time is not stored: whether a lease has expired, or a breaking one is
// broken, follows from its end and the time that the caller tells.
//
// Invariant: without an id there is nothing but `available`.
//
// Threads: the caller's lock. Errors: 409 for what is asked of the lease, 412 for what is asked of
// the blob. Not here: which durations and ids are well-formed.

#include "blob_lease.h"

#include <algorithm>

namespace upload::testserver {

namespace {

Refusal conflict(const std::string& code, const std::string& text) {
  Refusal refusal{409, text};
  refusal.code = code;
  return refusal;
}

Refusal failed_condition(const std::string& code, const std::string& text) {
  Refusal refusal{412, text};
  refusal.code = code;
  return refusal;
}

Refusal wrong_lease() {
  return conflict("LeaseIdMismatchWithLeaseOperation",
                  "The lease ID specified did not match the lease ID for the blob.");
}

Refusal not_leased() {
  return failed_condition("LeaseNotPresentWithBlobOperation",
                          "There is currently no lease on the blob.");
}

}  // namespace

std::string_view name_of(BlobLease::State state) {
  constexpr std::string_view kNames[] = {"available", "leased", "breaking", "broken", "expired"};
  return kNames[static_cast<std::size_t>(state)];
}

BlobLease::State BlobLease::state(Clock::time_point now) const {
  if (id_.empty()) {
    return State::available;
  }
  if (broken_) {
    return now < end_ ? State::breaking : State::broken;
  }
  return !duration_ || now < end_ ? State::leased : State::expired;
}

bool BlobLease::locked(Clock::time_point now) const {
  const State is = state(now);
  return is == State::leased || is == State::breaking;
}

std::optional<Refusal> BlobLease::acquire(Clock::time_point now, const std::string& id,
                                          std::optional<Seconds> duration) {
  if (state(now) == State::breaking && id == id_) {
    return conflict("LeaseIsBreakingAndCannotBeAcquired",
                    "The lease ID matched, but the lease is in breaking state and cannot be "
                    "acquired until it is broken.");
  }
  if (locked(now) && id != id_) {
    return conflict("LeaseAlreadyPresent", "There is already a lease present.");
  }
  id_ = id;
  duration_ = duration;
  end_ = now + duration.value_or(Seconds(0));
  broken_ = false;
  return std::nullopt;
}

std::optional<Refusal> BlobLease::renew(Clock::time_point now, std::string_view id) {
  if (id_.empty() || id != id_) {
    return wrong_lease();
  }
  if (broken_) {
    return conflict("LeaseIsBrokenAndCannotBeRenewed",
                    "The lease ID matched, but the lease has been broken explicitly and cannot "
                    "be renewed.");
  }
  end_ = now + duration_.value_or(Seconds(0));
  return std::nullopt;
}

std::optional<Refusal> BlobLease::release(Clock::time_point, std::string_view id) {
  if (id_.empty() || id != id_) {
    return wrong_lease();
  }
  *this = {};
  return std::nullopt;
}

std::optional<Refusal> BlobLease::break_it(Clock::time_point now, std::optional<Seconds> period,
                                           Seconds& left) {
  if (id_.empty()) {
    return conflict("LeaseNotPresentWithLeaseOperation",
                    "There is currently no lease on the blob.");
  }
  left = Seconds(0);
  if (locked(now)) {
    const bool ends = duration_ || broken_;
    const Seconds rest = ends ? std::chrono::ceil<Seconds>(end_ - now) : Seconds(0);
    left = ends ? std::min(period.value_or(rest), rest) : period.value_or(Seconds(0));
  }
  broken_ = true;
  end_ = now + left;
  return std::nullopt;
}

std::optional<Refusal> BlobLease::check_write(Clock::time_point now, std::string_view id) const {
  if (!locked(now)) {
    return id.empty() ? std::nullopt : std::optional(not_leased());
  }
  if (id.empty()) {
    return failed_condition("LeaseIdMissing",
                            "There is currently a lease on the blob and no lease ID was "
                            "specified in the request.");
  }
  return check_read(now, id);
}

std::optional<Refusal> BlobLease::check_read(Clock::time_point now, std::string_view id) const {
  if (id.empty()) {
    return std::nullopt;
  }
  if (!locked(now)) {
    return not_leased();
  }
  if (id != id_) {
    return failed_condition("LeaseIdMismatchWithBlobOperation",
                            "The lease ID specified did not match the lease ID for the blob.");
  }
  return std::nullopt;
}

void BlobLease::written(Clock::time_point now) {
  if (state(now) == State::expired) {
    *this = {};
  }
}

}  // namespace upload::testserver
