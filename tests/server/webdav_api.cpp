// SPDX-License-Identifier: BSD-3-Clause
//
// What requests for files do.
//
// Only the first byte of a Content-Range is used, and the body's length, in both directions: a longer
// body overwrites what follows, and one that ends beyond the file makes it longer. A PUT that has
// made the file and is cut off deletes it again, whoever else has written to it meanwhile.
//
// Threads: the connection's. Errors: Apache's statuses, of one line. A malformed Content-Range closes
// the connection, other refusals leave it.
// Not here: collections, properties, locks, conditions, and more than one range in a GET, which gets
// the whole file. A whole PUT to a ticket of another backend leaves it in memory.

#include "webdav_api.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "api_syntax.h"
#include "token_file.h"

namespace upload::testserver {

namespace {

constexpr std::string_view kRoot = "/dav/";
constexpr std::size_t kChunkBytes = 64 * 1024;
constexpr std::uint64_t kMaxFileBytes = std::numeric_limits<std::int64_t>::max();
constexpr const char* kMethods = "OPTIONS,GET,HEAD,DELETE,PUT";

Refusal bad_content_range(std::string_view text) {
  return {400, "Invalid Content-Range: '" + std::string(text) + "'", true};
}

/// A range of `size` bytes that a GET asks for, as RFC 9110 has it; nothing for one that is to be
/// ignored. An empty range can't be satisfied.
std::optional<ByteRange> parse_get_range(std::string_view text, std::uint64_t size) {
  constexpr std::string_view kUnit = "bytes=";
  if (!text.starts_with(kUnit) || text.find(',') != std::string_view::npos) {
    return std::nullopt;
  }
  const std::string_view range = text.substr(kUnit.size());
  const auto [first_text, last_text] = split(range, '-');
  if (first_text.empty()) {
    const auto count = parse_number(last_text);
    if (!count) {
      return std::nullopt;
    }
    const std::uint64_t length = std::min(*count, size);
    return ByteRange{size - length, length};
  }
  const auto parsed = parse_range(text);
  const auto* asked = std::get_if<RequestedRange>(&parsed);
  if (!asked) {
    return std::nullopt;
  }
  if (asked->first >= size) {
    return ByteRange{asked->first, 0};
  }
  const std::uint64_t last = std::min(asked->last.value_or(size - 1), size - 1);
  return ByteRange{asked->first, last - asked->first + 1};
}

}  // namespace

Reply WebdavApi::refused(const Refusal& refusal) const {
  Reply reply = Reply::refused(refusal);
  reply.body_follows = !refusal.close;
  return reply;
}

void WebdavApi::classify(HttpReader& http, Exchange& exchange) {
  exchange.target = parse_target(http.target());
  exchange.head_only = http.method() == "HEAD";
  const std::string& path = exchange.target.path;
  if (path.starts_with(kRoot)) {
    exchange.ticket_id = path.substr(kRoot.size());
  }
  find_operation(http, exchange);
  exchange.refusal = check_authorization(http);
  if (!exchange.refusal) {
    exchange.refusal = find_file(exchange);
  }
  if (exchange.refusal || exchange.op == Op::options) {
    return;
  }
  if (http.method() == "PUT") {
    exchange.refusal = read_put(http, exchange);
  } else if (exchange.op == Op::get || exchange.op == Op::head) {
    read_get(http, exchange);
  }
}

void WebdavApi::find_operation(const HttpReader& http, Exchange& exchange) const {
  constexpr std::pair<std::string_view, Op> kMethodOps[] = {{"OPTIONS", Op::options},
                                                            {"GET", Op::get},
                                                            {"HEAD", Op::head},
                                                            {"PUT", Op::create},
                                                            {"DELETE", Op::remove}};
  for (const auto& [method, op] : kMethodOps) {
    if (http.method() == method) {
      exchange.op = op;
    }
  }
  const bool heeded = state_.options.webdav_content_range != ContentRangeMode::ignored;
  if (exchange.op == Op::create && heeded && http.field("content-range")) {
    exchange.op = Op::put;
  }
}

std::optional<Refusal> WebdavApi::check_authorization(const HttpReader& http) const {
  const std::string wanted = state_.require_authorization();
  const std::string& tokens = state_.options.token_file;
  const auto shown = http.field("authorization").value_or("");
  const bool good = (wanted.empty() && tokens.empty()) || (!wanted.empty() && shown == wanted) ||
                    (!tokens.empty() && is_valid_token(tokens, shown));
  if (good) {
    return std::nullopt;
  }
  Refusal refusal{401, "Authorization is required"};
  const bool basic = wanted.starts_with("Basic ");
  refusal.headers.emplace_back("www-authenticate",
                               std::string(basic ? "Basic" : "Bearer") + " realm=\"files\"");
  return refusal;
}

std::optional<Refusal> WebdavApi::find_file(Exchange& exchange) {
  if (exchange.ticket_id.empty()) {
    return Refusal{404, "There is nothing at '" + exchange.target.path + "'"};
  }
  if (exchange.op == Op::other) {
    Refusal refusal{405, "The method is not allowed for this URL"};
    refusal.headers.emplace_back("allow", kMethods);
    return refusal;
  }
  const auto ticket = state_.tickets.find(exchange.ticket_id);
  const auto ticket_state = ticket ? ticket->state() : Ticket::State::removed;
  if (ticket_state == Ticket::State::expired) {
    return Refusal{403, "You don't have permission to access this resource"};
  }
  if (ticket_state == Ticket::State::valid) {
    exchange.ticket = ticket;
    const bool changes =
        exchange.op == Op::put || exchange.op == Op::create || exchange.op == Op::remove;
    return changes && !ticket->options().writable
               ? MaybeRefusal(Refusal{403, "You don't have permission to change this resource"})
               : std::nullopt;
  }
  const bool needs_file =
      exchange.op == Op::get || exchange.op == Op::head || exchange.op == Op::remove;
  return needs_file ? MaybeRefusal(Refusal{404, "The requested URL was not found"})
                    : std::nullopt;
}

std::optional<Refusal> WebdavApi::read_put(const HttpReader& http, Exchange& exchange) const {
  const auto text = http.field("content-range");
  if (!text || exchange.op != Op::put) {
    return std::nullopt;
  }
  if (state_.options.webdav_content_range == ContentRangeMode::refused) {
    return Refusal{501, "Content-Range is not supported for PUT"};
  }
  const auto parsed = parse_content_range(*text);
  const auto* first = std::get_if<std::uint64_t>(&parsed);
  const auto range = split(*text, '/').first;
  const auto last = parse_number(split(range, '-').second);
  if (!first || !last) {
    return bad_content_range(*text);
  }
  const std::uint64_t length = http.content_length().value_or(*last - *first + 1);
  if (*first > kMaxFileBytes || length > kMaxFileBytes - *first) {
    return bad_content_range(*text);
  }
  exchange.range = {*first, length};
  return std::nullopt;
}

void WebdavApi::read_get(const HttpReader& http, Exchange& exchange) {
  const std::uint64_t size = exchange.ticket->size();
  exchange.range = {0, size};
  const auto text = http.field("range");
  if (!text || size == 0) {
    return;
  }
  const auto range = parse_get_range(*text, size);
  if (!range) {
    return;
  }
  if (range->length == 0) {
    // Apache does not tell the size here.
    exchange.refusal = Refusal{416, "None of the range-specifier values overlap the file"};
    return;
  }
  exchange.partial = true;
  exchange.range = *range;
}

Reply WebdavApi::perform(HttpReader& http, Exchange& exchange) {
  if (exchange.ticket) {
    exchange.ticket->touch();
  }
  Reply reply;
  switch (exchange.op) {
    case Op::put: return put_range(http, exchange);
    case Op::create: return put_whole(http, exchange);
    case Op::remove:
      exchange.ticket->set_state(Ticket::State::removed);
      reply.status = 204;
      return reply;
    case Op::options:
      reply.headers = {{"dav", "1,2"},
                       {"dav", "<http://apache.org/dav/propset/fs/1>"},
                       {"ms-author-via", "DAV"},
                       {"allow", kMethods}};
      return reply;
    default: return get(exchange);
  }
}

std::shared_ptr<Ticket> WebdavApi::make_file(const std::string& id) const {
  TicketOptions options;
  options.id = id;
  return std::make_shared<Ticket>(options, make_backend(options, state_.board));
}

std::optional<Reply> WebdavApi::copy_body(HttpReader& http, Backend& backend, Session& session,
                                          std::uint64_t offset) {
  buffer_.resize(kChunkBytes);
  std::uint64_t done = 0;
  for (;;) {
    const auto size = http.read_some_body(buffer_);
    if (!size) {
      return Reply::dropped(CloseMode::silent);
    }
    if (*size == 0) {
      break;
    }
    std::error_code ec;
    if (*size > kMaxFileBytes - offset - done) {
      ec = std::make_error_code(std::errc::file_too_large);
    }
    ec = ec ? ec : backend.grow(offset + done + *size);
    ec = ec ? ec : session.write(offset + done, std::span(buffer_).first(*size));
    ec = ec ? ec : session.flush();
    if (ec) {
      return refused(storage_error(ec.message()));
    }
    done += *size;
  }
  state_.board.update([&](Counters& counters) {
    ++counters.changes;
    counters.bytes_put += done;
  });
  return std::nullopt;
}

Reply WebdavApi::put_range(HttpReader& http, Exchange& exchange) {
  bool made = false;
  {
    const auto lock = state_.tickets.lock_names();
    auto ticket = state_.tickets.find(exchange.ticket_id);
    if (!ticket || ticket->state() == Ticket::State::removed) {
      ticket = make_file(exchange.ticket_id);
      state_.tickets.add(ticket);
      made = true;
    }
    exchange.ticket = ticket;
  }
  std::string error;
  Session* const session = sessions_.open(exchange.ticket, error);
  if (!session) {
    return refused(storage_error(error));
  }
  if (auto failed =
          copy_body(http, exchange.ticket->backend(), *session, exchange.range.offset)) {
    if (made) {
      exchange.ticket->set_state(Ticket::State::removed);
    }
    return std::move(*failed);
  }
  Reply reply;
  reply.status = made ? 201 : 204;
  return reply;
}

Reply WebdavApi::put_whole(HttpReader& http, Exchange& exchange) {
  const auto ticket = make_file(exchange.ticket_id);
  std::string error;
  const auto session = ticket->backend().open(
      0, [] { return false; }, error);
  if (!session) {
    return refused(storage_error(error));
  }
  if (auto failed = copy_body(http, ticket->backend(), *session, 0)) {
    return std::move(*failed);
  }
  const auto lock = state_.tickets.lock_names();
  const auto known = state_.tickets.find(exchange.ticket_id);
  Reply reply;
  reply.status = known && known->state() != Ticket::State::removed ? 204 : 201;
  state_.tickets.add(ticket);
  return reply;
}

Reply WebdavApi::get(Exchange& exchange) {
  std::string error;
  Session* const session = sessions_.open(exchange.ticket, error);
  if (!session) {
    return refused(storage_error(error));
  }
  if (exchange.op == Op::get) {
    state_.board.update([&](Counters& counters) { counters.bytes_got += exchange.range.length; });
  }
  Reply reply;
  reply.status = exchange.partial ? 206 : 200;
  reply.headers.emplace_back("accept-ranges", "bytes");
  reply.data = ImageData{session, exchange.range, exchange.ticket->size(), exchange.partial};
  return reply;
}

Protocol::LateChange WebdavApi::late_change(const Exchange& exchange) const {
  return [ticket = exchange.ticket, range = exchange.range,
          apply = Protocol::late_change(exchange)](std::span<const char> data) {
    return ticket->state() != Ticket::State::removed && !ticket->backend().grow(range.end()) &&
           apply(data);
  };
}

}  // namespace upload::testserver
