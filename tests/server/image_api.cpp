// SPDX-License-Identifier: BSD-3-Clause
//
// What requests of the images API do.
//
// Threads: the connection's. Bodies pass through one buffer, chunk by chunk.
//
// Errors: refusals have the status of the real daemon; trouble with storage is a 500
// with one line. Not here: faults and counters of requests, how replies look on the wire.

#include "image_api.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "checksums.h"
#include "token_file.h"

namespace upload::testserver {

namespace {

constexpr std::size_t kMaxPatchBytes = 64 * 1024;

Refusal forbidden(const std::string& why) {
  return {403, "You are not allowed to access this resource: " + why, true};
}

std::string algorithms_json() {
  return nlohmann::json({{"algorithms", BlockChecksum::algorithms()}}).dump() + "\n";
}

Reply storage_failed(const std::string& what) { return Reply::refused(storage_error(what)); }

bool has_feature(const Ticket& ticket, std::string_view name) {
  const auto& features = ticket.options().features;
  return std::find(features.begin(), features.end(), name) != features.end();
}

}  // namespace

void ImageApi::classify(HttpReader& http, Exchange& exchange) {
  read_request(http, exchange);
  if (!exchange.refusal) {
    authorize(http, exchange);
  }
}

Reply ImageApi::refused(const Refusal& refusal) const { return Reply::refused(refusal); }

void ImageApi::read_request(HttpReader& http, Exchange& exchange) {
  exchange.target = parse_target(http.target());
  const Route route = parse_route(exchange.target.path);
  const std::string_view method = http.method();
  exchange.ticket_id = route.ticket_id;
  exchange.head_only = method == "HEAD";

  if (route.resource == Resource::unknown) {
    exchange.refusal = {404, "No handler for '" + exchange.target.path + "'"};
  } else if (route.resource == Resource::extents && method == "GET") {
    exchange.op = Op::extents;
  } else if (route.resource == Resource::checksum && method == "GET") {
    exchange.op = Op::checksum;
    const auto parsed = parse_checksum(exchange.target);
    if (const auto* asked = value_of(parsed, exchange.refusal)) {
      exchange.checksum = *asked;
    }
  } else if (route.resource == Resource::algorithms && method == "GET") {
    exchange.op = Op::algorithms;
  } else if (route.resource == Resource::image && method == "OPTIONS") {
    exchange.op = Op::options;
  } else if (route.resource == Resource::image && method == "GET") {
    read_get(http, exchange);
  } else if (route.resource == Resource::image && method == "PUT") {
    read_put(http, exchange);
  } else if (route.resource == Resource::image && method == "PATCH") {
    if (!read_patch(http, exchange) && !exchange.refusal) {
      exchange.refusal = {400, "The body ended early", true};
    }
  } else {
    // The real daemon closes here, whether there was a body or not: clients tell by it
    // whether their connection ends at the server.
    exchange.refusal = {
        405, "Method '" + std::string(method) + "' is not for '" + exchange.target.path + "'",
        true};
  }
  if (!exchange.refusal && exchange.ticket_id.empty()) {
    exchange.refusal = {400, "Ticket id is required"};
  }
}

void ImageApi::read_put(HttpReader& http, Exchange& exchange) {
  exchange.op = Op::put;
  const auto length = http.content_length();
  if (!length || http.chunked()) {
    exchange.refusal = {400, "Content-Length header is required", true};
    return;
  }
  exchange.range.length = *length;
  if (const auto text = http.field("content-range")) {
    const auto parsed = parse_content_range(*text);
    if (const auto* first = value_of(parsed, exchange.refusal)) {
      exchange.range.offset = *first;
    }
  }
  const auto parsed = parse_flush(exchange.target);
  std::optional<Refusal> bad_flush;
  if (const auto* flush = value_of(parsed, bad_flush)) {
    exchange.flush = *flush;
  } else if (!exchange.refusal) {
    exchange.refusal = bad_flush;
  }
}

void ImageApi::read_get(HttpReader& http, Exchange& exchange) {
  exchange.op = Op::get;
  const auto text = http.field("range");
  if (!text) {
    return;
  }
  exchange.partial = true;
  const auto parsed = parse_range(*text);
  if (const auto* range = value_of(parsed, exchange.refusal)) {
    exchange.range.offset = range->first;
    if (range->last) {
      // Of 2^64 bytes one is left out: no ticket has as many in any case.
      const std::uint64_t beyond_first = *range->last - range->first;
      exchange.range.length = beyond_first + (beyond_first < UINT64_MAX ? 1 : 0);
    }
  }
}

bool ImageApi::read_patch(HttpReader& http, Exchange& exchange) {
  std::string text(kMaxPatchBytes + 1, '\0');
  const auto size = http.read_body(text);
  if (!size) {
    return false;
  }
  if (*size > kMaxPatchBytes) {
    exchange.refusal = {400, "The message is too long", true};
    return false;
  }
  text.resize(*size);
  const auto parsed = parse_patch(text);
  const auto* patch = value_of(parsed, exchange.refusal);
  if (!patch) {
    return false;
  }
  exchange.op = patch->kind == Patch::Kind::zero ? Op::zero : Op::flush;
  exchange.range = patch->range;
  exchange.flush = patch->flush;
  return true;
}

void ImageApi::authorize(HttpReader& http, Exchange& exchange) {
  const std::string wanted = state_.require_authorization();
  if (!wanted.empty() && http.field("authorization") != wanted) {
    exchange.refusal = {401, "Authorization is required"};
    return;
  }
  const std::string& token_file = state_.options.token_file;
  if (!token_file.empty() &&
      !is_valid_token(token_file, http.field("authorization").value_or(""))) {
    exchange.refusal = {state_.options.token_status, "The token is not valid (any more)"};
    return;
  }
  for (const auto& [name, value] : state_.options.required_headers) {
    const auto field = http.field(name);
    if (!field || (!value.empty() && *field != value)) {
      exchange.refusal = forbidden("header " + name + " is missing or wrong");
      return;
    }
  }
  if (exchange.op == Op::options && exchange.ticket_id == "*") {
    return;
  }
  const auto ticket = state_.tickets.find(exchange.ticket_id);
  const auto ticket_state = ticket ? ticket->state() : Ticket::State::removed;
  const bool changes = exchange.is_change() || exchange.op == Op::flush;
  if (ticket_state == Ticket::State::removed) {
    exchange.refusal = forbidden("No such ticket");
  } else if (ticket_state == Ticket::State::expired) {
    exchange.refusal = forbidden("The ticket expired");
  } else if (changes && !ticket->options().writable) {
    exchange.refusal = forbidden("The ticket forbids write");
  } else {
    exchange.ticket = ticket;
    limit_range(exchange);
  }
}

void ImageApi::limit_range(Exchange& exchange) {
  const Ticket& ticket = *exchange.ticket;
  const bool lacks_zero = exchange.op == Op::zero && !has_feature(ticket, "zero");
  const bool lacks_flush = exchange.op == Op::flush && !has_feature(ticket, "flush");
  if (lacks_zero || lacks_flush) {
    exchange.refusal = {405, "This image has no " + std::string(name_of(exchange.op))};
    return;
  }
  if (exchange.op == Op::extents && !has_feature(ticket, "extents")) {
    exchange.refusal = {404, "This image has no extents"};
    return;
  }
  const bool sums = exchange.op == Op::checksum || exchange.op == Op::algorithms;
  if (sums && !has_feature(ticket, "checksum")) {
    exchange.refusal = {404, "This image has no checksum"};
    return;
  }
  const bool open_end = exchange.op == Op::get && exchange.range.length == 0;
  if (open_end && exchange.range.offset < ticket.size()) {
    exchange.range.length = ticket.size() - exchange.range.offset;
  } else if (open_end) {
    exchange.refusal = {416, "Range begins at or after the end"};
    exchange.refusal->available_bytes = ticket.size();
  } else {
    exchange.refusal = check_range(exchange.range, ticket.size());
  }
}

Reply ImageApi::perform(HttpReader& http, Exchange& exchange) {
  if (!exchange.ticket) {
    return options(exchange);  // of all images: `*`
  }
  std::string error;
  Session* const session = sessions_.open(exchange.ticket, error);
  if (!session) {
    return storage_failed(error);
  }
  Reply reply;
  switch (exchange.op) {
    case Op::put: reply = put(http, exchange, *session); break;
    case Op::zero: reply = zero(exchange, *session); break;
    case Op::flush: reply = flush(*session); break;
    case Op::get: reply = get(exchange, *session); break;
    case Op::extents: reply = extents(exchange, *session); break;
    case Op::checksum: reply = checksum(exchange, *session); break;
    case Op::algorithms: reply = Reply::json(algorithms_json()); break;
    default: reply = options(exchange); break;
  }
  exchange.ticket->touch();
  const auto close = exchange.target.query.find("close");
  if (close != exchange.target.query.end() && close->second == "y") {
    reply.close = true;
  }
  return reply;
}

Reply ImageApi::put(HttpReader& http, Exchange& exchange, Session& session) {
  const auto chunk_bytes = static_cast<std::size_t>(
      std::min<std::uint64_t>(exchange.range.length, exchange.ticket->backend().chunk_size()));
  buffer_.resize(std::max(buffer_.size(), chunk_bytes));
  const auto chunk = std::span(buffer_).first(chunk_bytes);
  std::uint64_t done = 0;
  while (done < exchange.range.length) {
    const auto size = http.read_body(chunk);
    if (!size || *size == 0) {
      return Reply::dropped(CloseMode::silent);
    }
    const auto ec = session.write(exchange.range.offset + done, chunk.first(*size));
    if (ec == std::errc::connection_aborted) {
      return Reply::dropped(CloseMode::silent);
    }
    if (ec) {
      return storage_failed(ec.message());
    }
    done += *size;
  }
  if (exchange.flush) {
    if (const auto ec = session.flush()) {
      return storage_failed(ec.message());
    }
  }
  state_.board.update([&](Counters& counters) {
    ++counters.changes;
    counters.bytes_put += done;
    counters.flushes += exchange.flush ? 1 : 0;
  });
  return {};
}

Reply ImageApi::zero(Exchange& exchange, Session& session) {
  auto ec = session.zero(exchange.range);
  if (ec == std::errc::connection_aborted) {
    return Reply::dropped(CloseMode::silent);
  }
  if (!ec && exchange.flush) {
    ec = session.flush();
  }
  if (ec) {
    return storage_failed(ec.message());
  }
  state_.board.update([&](Counters& counters) {
    ++counters.changes;
    counters.bytes_zeroed += exchange.range.length;
    counters.flushes += exchange.flush ? 1 : 0;
  });
  return {};
}

Reply ImageApi::flush(Session& session) {
  if (const auto ec = session.flush()) {
    return storage_failed(ec.message());
  }
  state_.board.update([](Counters& counters) { ++counters.flushes; });
  return {};
}

Reply ImageApi::get(Exchange& exchange, Session& session) {
  state_.board.update([&](Counters& counters) { counters.bytes_got += exchange.range.length; });
  Reply reply;
  reply.status = exchange.partial ? 206 : 200;
  reply.data = ImageData{&session, exchange.range, exchange.ticket->size(), exchange.partial};
  return reply;
}

Reply ImageApi::extents(Exchange& exchange, Session& session) {
  const auto context = exchange.target.query.find("context");
  if (context != exchange.target.query.end() && context->second != "zero") {
    const bool dirty = context->second == "dirty";
    return Reply::refused({dirty ? 404 : 400, "No such extents: " + context->second});
  }
  std::vector<Extent> extents;
  if (const auto ec = session.extents(extents)) {
    return storage_failed(ec.message());
  }
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const Extent& extent : extents) {
    json.push_back({{"start", extent.range.offset},
                    {"length", extent.range.length},
                    {"zero", extent.zero},
                    {"hole", extent.hole}});
  }
  return Reply::json(json.dump() + "\n");
}

// The real daemon does not read what is zero as an extent; the checksum is the same.
Reply ImageApi::checksum(Exchange& exchange, Session& session) {
  const ChecksumQuery& asked = exchange.checksum;
  BlockChecksum sum(asked.algorithm);
  std::vector<char> block;
  const std::uint64_t size = exchange.ticket->size();
  for (std::uint64_t offset = 0; offset < size; offset += block.size()) {
    block.resize(
        static_cast<std::size_t>(std::min<std::uint64_t>(asked.block_size, size - offset)));
    if (const auto ec = session.read(offset, block)) {
      return storage_failed(ec.message());
    }
    sum.add(block);
  }
  nlohmann::ordered_json json = {{"algorithm", asked.algorithm},
                                 {"block_size", asked.block_size},
                                 {"checksum", sum.finish()}};
  return Reply::json(json.dump() + "\n");
}

std::string ImageApi::options_json(const Exchange& exchange) const {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  const ServerOptions& server = state_.options;
  std::string socket = server.advertised_unix_socket;
  if (socket.empty() && server.advertise_unix_socket) {
    socket = server.unix_socket;
  }
  if (!socket.empty()) {
    if (socket[0] == '@') {
      socket[0] = '\0';  // as an abstract address has it
    }
    json["unix_socket"] = socket;
  }
  if (!exchange.ticket) {
    json["features"] = TicketOptions().features;
    return json.dump() + "\n";
  }
  const TicketOptions& ticket = exchange.ticket->options();
  std::vector<std::string> features = ticket.features;
  if (!ticket.writable) {
    std::erase_if(features, [](const auto& f) { return f == "zero" || f == "flush"; });
  }
  json["features"] = features;
  if (ticket.tell_limits) {
    json["max_readers"] = exchange.ticket->max_readers();
    json["max_writers"] = exchange.ticket->max_writers();
  }
  return json.dump() + "\n";
}

Reply ImageApi::options(Exchange& exchange) {
  const TicketOptions ticket = exchange.ticket ? exchange.ticket->options() : TicketOptions();
  Reply reply;
  switch (ticket.options_mode) {
    case OptionsMode::method_not_allowed:
      return Reply::refused({405, "Method 'OPTIONS' is not for this image"});
    case OptionsMode::no_content: reply.status = 204; break;
    case OptionsMode::json: reply = Reply::json(options_json(exchange)); break;
  }
  reply.headers.emplace_back("allow", ticket.writable ? "OPTIONS,GET,PUT,PATCH" : "OPTIONS,GET");
  return reply;
}

}  // namespace upload::testserver
