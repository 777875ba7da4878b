// SPDX-License-Identifier: BSD-3-Clause
//
// What requests for page blobs do.
//
// A refusal is decided on from the header alone, and sent before the body is read; the connection
// stays. The order is that of Azure: version, credentials, container and blob, the header's fields,
// and then lease and tag. The conditions are looked at again when a change is applied (blob.cpp).
//
// Invariants:
//   - a body is read as a whole, and checked, before any of it is applied;
//   - a change is flushed before it is answered.
//
// Threads: the connection's. Errors: Azure's names for them. Where the real answer is not known, as
// for most of what managed disks refuse, the status is a plausible one: clients must not depend on it.
// Not here: block blobs, snapshots, resizing, sequence numbers, conditions but If-Match and
// If-None-Match: *.

#include "azure_api.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <utility>

#include "azure_authorization.h"
#include "checksums.h"

namespace upload::testserver {

namespace {

constexpr std::uint64_t kPageBytes = 512;
constexpr std::uint64_t kMaxUpdateBytes = 4 * 1024 * 1024;
constexpr std::uint64_t kMaxBlobBytes = 8ULL << 40;
constexpr std::string_view kMetadata = "x-ms-meta-";

Refusal missing_header(std::string_view name) {
  return azure_refusal(
      400, "MissingRequiredHeader",
      "An HTTP header that's mandatory for this request is not specified: " + std::string(name));
}

Refusal invalid_header(std::string_view name, std::string_view value) {
  return azure_refusal(400, "InvalidHeaderValue",
                       "The value for one of the HTTP headers is not in the correct format: " +
                           std::string(name) + ": '" + std::string(value) + "'");
}

Refusal invalid_pages(const std::string& why) {
  return azure_refusal(416, "InvalidPageRange", "The page range specified is invalid: " + why);
}

Refusal invalid_range(std::uint64_t size) {
  Refusal refusal =
      azure_refusal(416, "InvalidRange",
                    "The range specified is invalid for the current size of the resource.");
  refusal.available_bytes = size;
  return refusal;
}

Refusal already_exists() {
  return azure_refusal(409, "BlobAlreadyExists", "The specified blob already exists.");
}

Refusal forbidden_for_managed(const std::string& what) {
  return azure_refusal(403, "AuthorizationPermissionMismatch",
                       "A managed disk that is uploaded to does not allow " + what);
}

std::string field_or_empty(const HttpReader& http, std::string_view name) {
  return std::string(http.field(name).value_or(""));
}

std::string query_or_empty(const Target& target, const std::string& name) {
  const auto found = target.query.find(name);
  return found == target.query.end() ? "" : found->second;
}

/// YYYY-MM-DD.
bool is_version(std::string_view text) {
  constexpr std::string_view kShape = "0000-00-00";
  return text.size() == kShape.size() &&
         std::equal(text.begin(), text.end(), kShape.begin(), [](char c, char shape) {
           return shape == '-' ? c == '-' : c >= '0' && c <= '9';
         });
}

std::string next_request_id() {
  static std::atomic<std::uint64_t> last{0};
  return std::to_string(++last);
}

Blob::Metadata metadata_of(const HttpReader& http) {
  Blob::Metadata metadata;
  for (const auto& [name, value] : http.fields_with(kMetadata)) {
    metadata[name.substr(kMetadata.size())] = value;
  }
  return metadata;
}

std::optional<Refusal> check_sums(const HttpReader& http, std::span<const char> data) {
  struct Sum {
    std::string_view field;
    std::string (*compute)(std::span<const char>);
    std::size_t bytes;
    const char* mismatch;
    const char* malformed;
  };
  constexpr Sum kSums[] = {
      {"content-md5", md5, 16, "Md5Mismatch", "InvalidMd5"},
      {"x-ms-content-crc64", crc64, 8, "Crc64Mismatch", "InvalidHeaderValue"}};
  for (const Sum& sum : kSums) {
    const auto shown = http.field(sum.field);
    if (!shown) {
      continue;
    }
    const auto wanted = from_base64(*shown);
    if (!wanted || wanted->size() != sum.bytes) {
      return azure_refusal(
          400, sum.malformed,
          std::string(sum.field) + " is not valid: '" + std::string(*shown) + "'");
    }
    if (*wanted != sum.compute(data)) {
      return azure_refusal(400, sum.mismatch,
                           "The " + std::string(sum.field) +
                               " value specified did not match with the calculated value.");
    }
  }
  return std::nullopt;
}

}  // namespace

Reply AzureApi::refused(const Refusal& refusal) const {
  Refusal named = refusal;
  if (named.code.empty()) {
    named.code = named.status == 404 ? "ResourceNotFound" : "InternalError";
  }
  Reply reply = success(named.status);
  reply.headers.emplace_back("content-type", "application/xml");
  reply.headers.emplace_back("x-ms-error-code", named.code);
  if (named.available_bytes) {
    reply.headers.emplace_back("content-range",
                               "bytes */" + std::to_string(*named.available_bytes));
  }
  reply.headers.insert(reply.headers.end(), named.headers.begin(), named.headers.end());
  reply.body = error_xml(named, reply.headers.front().second);
  reply.close = named.close;
  reply.body_follows = !named.close;
  return reply;
}

Reply AzureApi::success(int status) const {
  Reply reply;
  reply.status = status;
  reply.headers = {{"x-ms-request-id", next_request_id()},
                   {"x-ms-version", "2021-12-02"},
                   {"date", http_date(std::chrono::system_clock::now())}};
  return reply;
}

void AzureApi::tell_blob(Reply& reply) const {
  const BlobView view = request_.blob->view();
  reply.headers.emplace_back("etag", view.etag);
  reply.headers.emplace_back("last-modified", http_date(view.modified));
}

Reply AzureApi::not_done(const Blob::Outcome& outcome) const {
  if (outcome.refusal) {
    return refused(*outcome.refusal);
  }
  if (outcome.error == std::errc::connection_aborted) {
    return Reply::dropped(CloseMode::silent);
  }
  return refused(storage_error(outcome.error.message()));
}

void AzureApi::classify(HttpReader& http, Exchange& exchange) {
  request_ = {};
  exchange.target = parse_target(http.target());
  exchange.head_only = http.method() == "HEAD";
  request_.name = parse_blob_path(exchange.target.path, state_.options.azure.account);
  if (request_.name) {
    exchange.ticket_id = request_.name->blob;
  }
  request_.conditions = {field_or_empty(http, "x-ms-lease-id"), field_or_empty(http, "if-match")};
  find_operation(http, exchange);

  const auto version = http.field("x-ms-version");
  if (!version) {
    exchange.refusal = missing_header("x-ms-version");
  } else if (!is_version(*version)) {
    exchange.refusal = invalid_header("x-ms-version", *version);
  } else {
    exchange.refusal =
        check_azure_authorization(state_, http, exchange.target, request_.permissions);
  }
  if (!exchange.refusal) {
    exchange.refusal = find_blob(exchange);
  }
  if (!exchange.refusal) {
    exchange.refusal = check_operation(http, exchange);
  }
  if (exchange.refusal) {
    exchange.ticket = nullptr;
  }
}

void AzureApi::find_operation(HttpReader& http, Exchange& exchange) {
  struct Row {
    std::string_view method;
    std::string_view comp;
    Op op;
    const char* permissions;
  };
  constexpr Row kRows[] = {
      {"HEAD", "", Op::head, "r"},
      {"GET", "", Op::get, "r"},
      {"GET", "pagelist", Op::extents, "r"},
      {"PUT", "page", Op::put, "w"},
      {"PUT", "", Op::create, "cw"},
      {"PUT", "lease", Op::lease, "w"},
      {"PUT", "metadata", Op::metadata, "w"},
      {"DELETE", "", Op::remove, "d"},
  };
  const std::string comp = query_or_empty(exchange.target, "comp");
  for (const Row& row : kRows) {
    if (row.method == http.method() && row.comp == comp) {
      exchange.op = row.op;
      request_.permissions = row.permissions;
    }
  }
  if (exchange.op == Op::put && http.field("x-ms-page-write") == "clear") {
    exchange.op = Op::zero;
  }
}

std::optional<Refusal> AzureApi::find_blob(Exchange& exchange) {
  if (!request_.name) {
    return azure_refusal(400, "InvalidUri", "The requested URI does not represent any resource.");
  }
  if (request_.name->container != state_.options.azure.container) {
    return azure_refusal(404, "ContainerNotFound", "The specified container does not exist.");
  }
  if (request_.name->blob.empty()) {
    return azure_refusal(400, "UnsupportedQueryParameter",
                         "This server has no container requests");
  }
  if (exchange.op == Op::other) {
    return azure_refusal(400, "InvalidQueryParameterValue",
                         "Not a request for a page blob that this server knows");
  }
  const auto ticket = state_.tickets.find(exchange.ticket_id);
  const auto ticket_state = ticket ? ticket->state() : Ticket::State::removed;
  if (ticket_state == Ticket::State::expired) {
    return azure_refusal(403, "AuthenticationFailed", "Access to this blob was taken back.");
  }
  if (ticket_state == Ticket::State::valid) {
    exchange.ticket = ticket;
    request_.blob = state_.blobs.of(*ticket);
    return std::nullopt;
  }
  if (exchange.op == Op::create) {
    return std::nullopt;
  }
  return azure_refusal(404, "BlobNotFound", "The specified blob does not exist.");
}

std::optional<Refusal> AzureApi::check_operation(HttpReader& http, Exchange& exchange) {
  MaybeRefusal refusal = check_managed(http, exchange);
  if (refusal) {
    return refusal;
  }
  switch (exchange.op) {
    case Op::put:
    case Op::zero: refusal = read_page_write(http, exchange); break;
    case Op::create: refusal = read_create(http, exchange); break;
    case Op::get:
    case Op::extents: refusal = read_range(http, exchange); break;
    default: break;
  }
  if (refusal || exchange.op == Op::lease || !request_.blob) {
    return refusal;
  }
  const bool reads =
      exchange.op == Op::get || exchange.op == Op::extents || exchange.op == Op::head;
  if (!reads && !exchange.ticket->options().writable) {
    return azure_refusal(403, "AuthorizationPermissionMismatch", "The blob is read-only");
  }
  const auto now = state_.blobs.now();
  return reads ? request_.blob->check_read(now, request_.conditions)
               : request_.blob->check_write(now, request_.conditions);
}

std::optional<Refusal> AzureApi::check_managed(HttpReader& http, const Exchange& exchange) const {
  if (!state_.options.azure.managed_disk) {
    return std::nullopt;
  }
  switch (exchange.op) {
    case Op::create: return forbidden_for_managed("to be made");
    case Op::remove: return forbidden_for_managed("to be deleted");
    case Op::lease: return forbidden_for_managed("a lease");
    default: break;
  }
  if (http.field("content-md5")) {
    return azure_refusal(400, "UnsupportedHeader",
                         "One of the HTTP headers specified in the request is not supported: "
                         "Content-MD5");
  }
  return std::nullopt;
}

std::optional<Refusal> AzureApi::read_page_write(HttpReader& http, Exchange& exchange) {
  const auto kind = http.field("x-ms-page-write");
  if (!kind) {
    return missing_header("x-ms-page-write");
  }
  if (*kind != "update" && *kind != "clear") {
    return invalid_header("x-ms-page-write", *kind);
  }
  const auto length = http.content_length();
  if (!length || http.chunked()) {
    return azure_refusal(411, "MissingContentLengthHeader",
                         "The Content-Length header was not specified.");
  }
  const auto text = http.field("x-ms-range") ? http.field("x-ms-range") : http.field("range");
  if (!text) {
    return invalid_pages("there is none");
  }
  MaybeRefusal refusal;
  const auto parsed = parse_azure_range(*text);
  const auto* range = value_of(parsed, refusal);
  if (!range) {
    return refusal;
  }
  if (!range->last || range->first % kPageBytes != 0 ||
      *range->last % kPageBytes != kPageBytes - 1) {
    return invalid_pages("'" + std::string(*text) + "' is not aligned to 512 bytes");
  }
  exchange.range = {range->first, *range->last - range->first + 1};
  if (check_range(exchange.range, exchange.ticket->size())) {
    return invalid_pages("'" + std::string(*text) + "' ends beyond the blob's " +
                         std::to_string(exchange.ticket->size()) + " bytes");
  }
  if (exchange.op == Op::zero) {
    return *length == 0 ? std::nullopt
                        : MaybeRefusal(invalid_header("content-length", std::to_string(*length)));
  }
  if (exchange.range.length > kMaxUpdateBytes || *length > kMaxUpdateBytes) {
    return azure_refusal(
        413, "RequestBodyTooLarge",
        "The request body is too large and exceeds the maximum permissible limit.");
  }
  if (*length != exchange.range.length) {
    return invalid_pages("the body has " + std::to_string(*length) + " bytes, the range " +
                         std::to_string(exchange.range.length));
  }
  return std::nullopt;
}

std::optional<Refusal> AzureApi::read_create(HttpReader& http, Exchange& exchange) {
  const auto type = http.field("x-ms-blob-type");
  if (!type) {
    return missing_header("x-ms-blob-type");
  }
  if (*type != "PageBlob") {
    return invalid_header("x-ms-blob-type", *type);
  }
  if (http.content_length().value_or(1) != 0 || http.chunked()) {
    return invalid_header("content-length", field_or_empty(http, "content-length"));
  }
  const auto text = http.field("x-ms-blob-content-length");
  if (!text) {
    return missing_header("x-ms-blob-content-length");
  }
  const auto size = parse_number(*text);
  if (!size || *size % kPageBytes != 0 || *size > kMaxBlobBytes) {
    return invalid_header("x-ms-blob-content-length", *text);
  }
  request_.new_bytes = *size;
  if (exchange.ticket && http.field("if-none-match") == "*") {
    return already_exists();
  }
  if (!exchange.ticket && !request_.conditions.if_match.empty()) {
    return azure_refusal(412, "ConditionNotMet",
                         "The condition specified using HTTP conditional header(s) is not met.");
  }
  return std::nullopt;
}

std::optional<Refusal> AzureApi::read_range(HttpReader& http, Exchange& exchange) {
  const std::uint64_t size = exchange.ticket->size();
  exchange.range = {0, size};
  const auto text = http.field("x-ms-range") ? http.field("x-ms-range") : http.field("range");
  if (!text) {
    return std::nullopt;
  }
  MaybeRefusal refusal;
  const auto parsed = parse_azure_range(*text);
  const auto* range = value_of(parsed, refusal);
  if (!range) {
    return refusal;
  }
  if (range->first >= size) {
    return invalid_range(size);
  }
  exchange.partial = true;
  const std::uint64_t last = std::min(range->last.value_or(size - 1), size - 1);
  exchange.range = {range->first, last - range->first + 1};
  return std::nullopt;
}

Reply AzureApi::perform(HttpReader& http, Exchange& exchange) {
  switch (exchange.op) {
    case Op::create: return create(http, exchange);
    case Op::remove: return remove(exchange);
    case Op::metadata: return set_metadata(http);
    case Op::lease: return lease(http);
    case Op::extents: return list_pages(exchange);
    default: break;
  }
  std::string error;
  Session* const session = sessions_.open(exchange.ticket, error);
  if (!session) {
    return refused(storage_error(error));
  }
  exchange.ticket->touch();
  return exchange.is_change() ? write_pages(http, exchange, *session) : get(exchange, *session);
}

Reply AzureApi::write_pages(HttpReader& http, Exchange& exchange, Session& session) {
  const bool zero = exchange.op == Op::zero;
  buffer_.resize(zero ? 0 : static_cast<std::size_t>(exchange.range.length));
  if (http.read_body(buffer_) != buffer_.size()) {
    return Reply::dropped(CloseMode::silent);
  }
  if (const auto refusal = check_sums(http, buffer_)) {
    return refused(*refusal);
  }
  const auto outcome =
      request_.blob->write(state_.blobs.now(), request_.conditions, exchange.range, zero, [&] {
        const auto ec =
            zero ? session.zero(exchange.range) : session.write(exchange.range.offset, buffer_);
        return ec ? ec : session.flush();
      });
  if (!outcome.ok()) {
    return not_done(outcome);
  }
  state_.board.update([&](Counters& counters) {
    ++counters.changes;
    (zero ? counters.bytes_zeroed : counters.bytes_put) += exchange.range.length;
  });
  Reply reply = success(201);
  tell_blob(reply);
  reply.headers.emplace_back("x-ms-blob-sequence-number", "0");
  return reply;
}

Protocol::LateChange AzureApi::late_change(const Exchange& exchange) const {
  return [&state = state_, blob = request_.blob, conditions = request_.conditions,
          range = exchange.range, zero = exchange.op == Op::zero,
          apply = Protocol::late_change(exchange)](std::span<const char> data) {
    const auto outcome = blob->write(state.blobs.now(), conditions, range, zero, [&] {
      return apply(data) ? std::error_code() : std::make_error_code(std::errc::io_error);
    });
    return outcome.ok();
  };
}

Reply AzureApi::get(Exchange& exchange, Session& session) {
  const BlobView view = request_.blob->view();
  const auto now = state_.blobs.now();
  Reply reply = success(exchange.partial ? 206 : 200);
  tell_blob(reply);
  const auto tell = [&](std::string name, std::string_view value) {
    reply.headers.emplace_back(std::move(name), value);
  };
  tell("accept-ranges", "bytes");
  tell("x-ms-blob-type", "PageBlob");
  tell("x-ms-blob-sequence-number", "0");
  tell("x-ms-lease-state", name_of(view.lease.state(now)));
  tell("x-ms-lease-status", view.lease.locked(now) ? "locked" : "unlocked");
  if (view.lease.state(now) == BlobLease::State::leased) {
    tell("x-ms-lease-duration", view.lease.infinite() ? "infinite" : "fixed");
  }
  for (const auto& [name, value] : view.metadata) {
    tell(std::string(kMetadata) + name, value);
  }
  if (exchange.op == Op::head) {
    exchange.range = {0, exchange.ticket->size()};
  } else {
    state_.board.update([&](Counters& counters) { counters.bytes_got += exchange.range.length; });
  }
  reply.data = ImageData{&session, exchange.range, exchange.ticket->size(), exchange.partial};
  return reply;
}

Reply AzureApi::list_pages(Exchange& exchange) {
  std::size_t limit = state_.options.azure.pages_per_list;
  if (const std::string text = query_or_empty(exchange.target, "maxresults"); !text.empty()) {
    const auto wanted = parse_number(text);
    if (!wanted || *wanted == 0) {
      return refused(azure_refusal(400, "OutOfRangeQueryParameterValue",
                                   "maxresults: '" + text + "' is not a number from 1 on"));
    }
    limit = static_cast<std::size_t>(std::min<std::uint64_t>(*wanted, limit));
  }
  ByteRange range = exchange.range;
  constexpr std::string_view kMarker = "pages-from-";
  if (const std::string text = query_or_empty(exchange.target, "marker"); !text.empty()) {
    const auto from = text.starts_with(kMarker)
                          ? parse_number(std::string_view(text).substr(kMarker.size()))
                          : std::nullopt;
    if (!from || *from < range.offset || *from >= range.end()) {
      return refused(azure_refusal(400, "InvalidQueryParameterValue",
                                   "marker: '" + text + "' is none of this server's"));
    }
    range = {*from, range.end() - *from};
  }
  auto pages = request_.blob->pages(range, limit + 1);
  std::string next;
  if (pages.size() > limit) {
    next = std::string(kMarker) + std::to_string(pages.back().offset);
    pages.pop_back();
  }
  Reply reply = success(200);
  tell_blob(reply);
  reply.headers.emplace_back("content-type", "application/xml");
  reply.headers.emplace_back("x-ms-blob-content-length", std::to_string(exchange.ticket->size()));
  reply.body = page_list_xml(pages, next);
  reply.chunked = true;
  return reply;
}

Reply AzureApi::create(HttpReader& http, Exchange& exchange) {
  TicketOptions options;
  options.id = exchange.ticket_id;
  options.size_bytes = request_.new_bytes;
  std::shared_ptr<Ticket> ticket;
  try {
    ticket = std::make_shared<Ticket>(options, make_backend(options, state_.board));
  } catch (const std::runtime_error& error) {
    return refused(storage_error(error.what()));
  }
  const auto lock = state_.tickets.lock_names();
  // Somebody else may have made it meanwhile.
  const auto known = state_.tickets.find(options.id);
  const bool exists = known && known->state() != Ticket::State::removed;
  if (exists && http.field("if-none-match") == "*") {
    return refused(already_exists());
  }
  request_.blob = exists ? state_.blobs.of(*known) : std::make_shared<Blob>();
  const auto outcome =
      request_.blob->wipe(state_.blobs.now(), request_.conditions, metadata_of(http), [&] {
        ticket->set_blob(request_.blob);
        state_.tickets.add(ticket);
        return std::error_code();
      });
  if (!outcome.ok()) {
    return not_done(outcome);
  }
  Reply reply = success(201);
  tell_blob(reply);
  return reply;
}

Reply AzureApi::remove(Exchange& exchange) {
  const auto outcome = request_.blob->wipe(state_.blobs.now(), request_.conditions, {}, [&] {
    exchange.ticket->set_state(Ticket::State::removed);
    return std::error_code();
  });
  return outcome.ok() ? success(202) : not_done(outcome);
}

Reply AzureApi::set_metadata(HttpReader& http) {
  const auto refusal =
      request_.blob->set_metadata(state_.blobs.now(), request_.conditions, metadata_of(http));
  if (refusal) {
    return refused(*refusal);
  }
  Reply reply = success(200);
  tell_blob(reply);
  return reply;
}

}  // namespace upload::testserver
