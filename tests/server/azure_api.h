// SPDX-License-Identifier: BSD-3-Clause
//
// Page blobs of Azure's blob service. Source: learn.microsoft.com/rest/api/storageservices
// (Put Blob, Put Page, Get Blob, Get Page Ranges, Lease Blob, Set Blob Metadata).

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "azure_syntax.h"
#include "blob.h"
#include "protocol.h"

namespace upload::testserver {

/// Stricter than azurite: what the documentation refuses is refused. A change is stable when it is
/// acknowledged, and a Put Page that is cut off changes nothing.
class AzureApi : public Protocol {
 public:
  AzureApi(ServerState& state, Sessions& sessions) : state_(state), sessions_(sessions) {}

  void classify(HttpReader& http, Exchange& exchange) override;
  [[nodiscard]] Reply perform(HttpReader& http, Exchange& exchange) override;
  [[nodiscard]] Reply refused(const Refusal& refusal) const override;
  [[nodiscard]] LateChange late_change(const Exchange& exchange) const override;

 private:
  using MaybeRefusal = std::optional<Refusal>;

  // What the request is that is being handled.
  struct Request {
    std::optional<BlobName> name{};
    std::string permissions{};  // any of these letters
    BlobConditions conditions{};
    std::shared_ptr<Blob> blob{};  // null if there is none
    std::uint64_t new_bytes = 0;   // create
  };

  // Reading what is asked for; each says why it is refused.
  void find_operation(HttpReader& http, Exchange& exchange);
  [[nodiscard]] MaybeRefusal find_blob(Exchange& exchange);
  [[nodiscard]] MaybeRefusal check_operation(HttpReader& http, Exchange& exchange);
  [[nodiscard]] MaybeRefusal read_page_write(HttpReader& http, Exchange& exchange);
  [[nodiscard]] MaybeRefusal read_create(HttpReader& http, Exchange& exchange);
  [[nodiscard]] MaybeRefusal read_range(HttpReader& http, Exchange& exchange);
  [[nodiscard]] MaybeRefusal check_managed(HttpReader& http, const Exchange& exchange) const;

  // Doing it.
  [[nodiscard]] Reply write_pages(HttpReader& http, Exchange& exchange, Session& session);
  [[nodiscard]] Reply get(Exchange& exchange, Session& session);
  [[nodiscard]] Reply list_pages(Exchange& exchange);
  [[nodiscard]] Reply create(HttpReader& http, Exchange& exchange);
  [[nodiscard]] Reply remove(Exchange& exchange);
  [[nodiscard]] Reply set_metadata(HttpReader& http);
  [[nodiscard]] Reply lease(HttpReader& http);

  [[nodiscard]] Reply success(int status) const;
  void tell_blob(Reply& reply) const;
  [[nodiscard]] Reply not_done(const Blob::Outcome& outcome) const;

  ServerState& state_;
  Sessions& sessions_;
  Request request_;
  std::vector<char> buffer_;  // of bodies
};

}  // namespace upload::testserver
