// SPDX-License-Identifier: BSD-3-Clause
//
// Lease requests: what their header asks of a blob's lease, and what is answered.
//
// Threads: the connection's; the lease changes under its blob's lock. Errors: 400 for what is
// malformed; the rest is BlobLease's.

#include "azure_api.h"

namespace upload::testserver {

namespace {

using Seconds = BlobLease::Seconds;

constexpr std::int64_t kMinLeaseSeconds = 15;
constexpr std::int64_t kMaxLeaseSeconds = 60;

/// The header of a lease request.
struct LeaseRequest {
  std::string action{};
  std::string id{};                   // what the client takes its lease to be
  std::string proposed_id{};          // never empty for acquire
  std::optional<Seconds> duration{};  // nothing: without an end
  std::optional<Seconds> period{};    // of a break; nothing: what is left
};

Refusal missing(std::string_view name) {
  return azure_refusal(
      400, "MissingRequiredHeader",
      "An HTTP header that's mandatory for this request is not specified: " + std::string(name));
}

Refusal invalid(std::string_view name, std::string_view value) {
  return azure_refusal(400, "InvalidHeaderValue",
                       "The value for one of the HTTP headers is not in the correct format: " +
                           std::string(name) + ": '" + std::string(value) + "'");
}

std::optional<Refusal> read_duration(const HttpReader& http, LeaseRequest& request) {
  const auto text = http.field("x-ms-lease-duration");
  if (!text) {
    return missing("x-ms-lease-duration");
  }
  if (*text == "-1") {
    return std::nullopt;
  }
  const auto seconds = parse_number(*text);
  if (!seconds || *seconds < kMinLeaseSeconds || *seconds > kMaxLeaseSeconds) {
    return invalid("x-ms-lease-duration", *text);
  }
  request.duration = Seconds(*seconds);
  return std::nullopt;
}

std::optional<Refusal> read_acquire(const HttpReader& http, LeaseRequest& request) {
  const auto proposed = http.field("x-ms-proposed-lease-id");
  request.proposed_id = proposed ? std::string(*proposed) : new_guid();
  if (!is_guid(request.proposed_id)) {
    return invalid("x-ms-proposed-lease-id", request.proposed_id);
  }
  return read_duration(http, request);
}

std::optional<Refusal> read_break(const HttpReader& http, LeaseRequest& request) {
  const auto text = http.field("x-ms-lease-break-period");
  if (!text) {
    return std::nullopt;
  }
  const auto seconds = parse_number(*text);
  if (!seconds || *seconds > static_cast<std::uint64_t>(kMaxLeaseSeconds)) {
    return invalid("x-ms-lease-break-period", *text);
  }
  request.period = Seconds(*seconds);
  return std::nullopt;
}

std::optional<Refusal> read_lease_request(const HttpReader& http, LeaseRequest& request) {
  const auto action = http.field("x-ms-lease-action");
  if (!action) {
    return missing("x-ms-lease-action");
  }
  request.action = *action;
  request.id = std::string(http.field("x-ms-lease-id").value_or(""));
  if (*action == "acquire") {
    return read_acquire(http, request);
  }
  if (*action == "break") {
    return read_break(http, request);
  }
  if (*action != "renew" && *action != "release") {
    return invalid("x-ms-lease-action", *action);
  }
  return request.id.empty() ? std::optional(missing("x-ms-lease-id")) : std::nullopt;
}

}  // namespace

Reply AzureApi::lease(HttpReader& http) {
  LeaseRequest request;
  if (const auto refusal = read_lease_request(http, request)) {
    return refused(*refusal);
  }
  const auto now = state_.blobs.now();
  Seconds left{0};
  const auto refusal = request_.blob->change_lease([&](BlobLease& lease) -> MaybeRefusal {
    if (request.action == "acquire") {
      return lease.acquire(now, request.proposed_id, request.duration);
    }
    if (request.action == "renew") {
      return lease.renew(now, request.id);
    }
    if (request.action == "release") {
      return lease.release(now, request.id);
    }
    return lease.break_it(now, request.period, left);
  });
  if (refusal) {
    return refused(*refusal);
  }
  const bool acquired = request.action == "acquire";
  const bool broken = request.action == "break";
  Reply reply = success(acquired ? 201 : broken ? 202 : 200);
  tell_blob(reply);
  if (broken) {
    reply.headers.emplace_back("x-ms-lease-time", std::to_string(left.count()));
  } else if (request.action != "release") {
    reply.headers.emplace_back("x-ms-lease-id", acquired ? request.proposed_id : request.id);
  }
  return reply;
}

}  // namespace upload::testserver
