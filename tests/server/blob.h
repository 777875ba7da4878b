// SPDX-License-Identifier: BSD-3-Clause
//
// What Azure knows of a page blob besides its bytes: lease, tag, written pages, metadata.

#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "blob_lease.h"
#include "page_ranges.h"

namespace upload::testserver {

class Ticket;

/// What a request demands of the blob; empty: nothing.
struct BlobConditions {
  std::string lease_id{};
  std::string if_match{};
};

/// How a blob looks at one moment.
struct BlobView {
  std::string etag{};  // with its quotation marks
  std::chrono::system_clock::time_point modified{};
  BlobLease lease{};
  std::map<std::string, std::string> metadata{};  // names without x-ms-meta-
};

/// Thread safe. Changes of one blob come one after the other, each with its conditions checked
/// in the same step.
class Blob {
 public:
  using Clock = BlobLease::Clock;
  using Metadata = std::map<std::string, std::string>;

  Blob();

  [[nodiscard]] BlobView view() const;
  [[nodiscard]] std::optional<Refusal> check_write(Clock::time_point now,
                                                   const BlobConditions& conditions) const;
  [[nodiscard]] std::optional<Refusal> check_read(Clock::time_point now,
                                                  const BlobConditions& conditions) const;

  /// What came of a change: nothing was applied if there is a refusal or an error.
  struct Outcome {
    std::optional<Refusal> refusal{};
    std::error_code error{};

    [[nodiscard]] bool ok() const { return !refusal && !error; }
  };
  /// Runs `apply`, which writes data or zeroes to the range, if the conditions hold.
  [[nodiscard]] Outcome write(Clock::time_point now, const BlobConditions& conditions,
                              const ByteRange& range, bool zero,
                              const std::function<std::error_code()>& apply);
  /// The same for a blob that is made anew or deleted: no page is written afterwards.
  [[nodiscard]] Outcome wipe(Clock::time_point now, const BlobConditions& conditions,
                             Metadata metadata, const std::function<std::error_code()>& apply);
  [[nodiscard]] std::optional<Refusal> set_metadata(Clock::time_point now,
                                                    const BlobConditions& conditions,
                                                    Metadata metadata);
  /// Runs `action` on the lease.
  [[nodiscard]] std::optional<Refusal> change_lease(
      const std::function<std::optional<Refusal>(BlobLease&)>& action);

  /// Content that a test has put there.
  void filled(const ByteRange& range);
  [[nodiscard]] std::vector<ByteRange> pages(const ByteRange& range, std::size_t limit) const;

 private:
  [[nodiscard]] std::optional<Refusal> check(Clock::time_point now,
                                             const BlobConditions& conditions) const;
  void changed(Clock::time_point now);

  mutable std::mutex mutex_;  // protects all below; held while a change is applied
  BlobView view_;
  PageRanges pages_;
};

/// The blobs of a server's tickets, and the clock of their leases. Thread safe.
class Blobs {
 public:
  /// The ticket's; made when it is asked for the first time, with the pages that have data then.
  [[nodiscard]] std::shared_ptr<Blob> of(Ticket& ticket);

  [[nodiscard]] Blob::Clock::time_point now() const;
  /// Lets leases grow older.
  void advance(std::chrono::seconds time);

 private:
  mutable std::mutex mutex_;  // protects all below, and that a ticket gets one blob only
  std::chrono::seconds ahead_{0};
};

}  // namespace upload::testserver
