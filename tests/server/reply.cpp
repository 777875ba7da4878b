// SPDX-License-Identifier: BSD-3-Clause
//
// Replies on the wire, right or wrong.
//
// A reply is first turned into a plan: which header fields, how many bytes of body, what
// happens afterwards. Faults only change the plan, or replace the sending of the header
// by something else; there is a single way in which bodies are sent, for text and for
// images, piece by piece with Beast's serializer. Field names are in lower case, as the
// real daemon has them.
//
// Invariant: what is said and what is sent differ only if a fault asks for it.
//
// Threads: the connection's. Errors: a connection that fails while sending is closed,
// and so is one whose image cannot be read in the middle of the body; before the first
// byte the latter becomes a 500.

#include "reply.h"

#include <algorithm>
#include <array>
#include <boost/beast/http.hpp>
#include <random>
#include <sstream>

#include "sync_stream.h"

namespace upload::testserver {

namespace http = boost::beast::http;

namespace {

constexpr std::size_t kPieceBytes = 256 * 1024;
constexpr std::uint64_t kRangeShift = 512;  // of wrong_content_range
constexpr std::uint64_t kLongerBy = 64;     // of lie_long_content_length
constexpr std::size_t kMadeUpBytes = 64;    // body where a fault needs one

using Response = http::response<http::buffer_body>;

/// How a reply goes out.
struct Plan {
  std::uint64_t told_bytes = 0;  // Content-Length
  std::uint64_t sent_bytes = 0;  // of the body
  bool tell_length = true;
  bool chunked = false;
  bool tell_close = false;
  std::uint64_t range_shift = 0;
  std::optional<CloseMode> after{};  // nothing: the connection stays
};

std::uint64_t body_bytes(const Reply& reply) {
  return reply.data ? reply.data->range.length : reply.body.size();
}

bool is(const FiredFault& fault, Action action) { return fault && fault->action == action; }

/// What a fault changes about the reply itself.
void falsify(Reply& reply, const FiredFault& fault) {
  if (is(fault, Action::raw_json)) {
    reply = Reply::json(fault->body);
  }
  if (is(fault, Action::wrong_status_200_on_get) && reply.data) {
    reply.status = 200;
    reply.data->range = {0, reply.data->complete_bytes};
    reply.data->partial = false;
  }
  const bool needs_body =
      is(fault, Action::truncate_reply_body) || is(fault, Action::lie_short_content_length);
  if (needs_body && body_bytes(reply) == 0) {
    reply.body.assign(kMadeUpBytes, '?');
  }
}

Plan make_plan(const Reply& reply, const FiredFault& fault, bool head_only) {
  Plan plan;
  plan.told_bytes = body_bytes(reply);
  plan.sent_bytes = head_only ? 0 : plan.told_bytes;
  plan.chunked = reply.chunked;
  plan.tell_length = reply.status != 204 && !reply.chunked;
  plan.tell_close = reply.close;
  if (reply.close) {
    plan.after = CloseMode::silent;
  }
  if (!fault) {
    return plan;
  }
  if (is(fault, Action::truncate_reply_body) || is(fault, Action::no_content_length) ||
      is(fault, Action::lie_short_content_length) || is(fault, Action::lie_long_content_length)) {
    // These are about a length.
    plan.chunked = false;
    plan.tell_length = reply.status != 204;
  }
  switch (fault->action) {
    case Action::truncate_reply_body:
      plan.sent_bytes /= 2;
      plan.after = CloseMode::silent;
      break;
    case Action::connection_close:
      plan.tell_close = true;
      plan.after = CloseMode::silent;
      break;
    case Action::close_mid_reply:
    case Action::garbage_status_line:
    case Action::close_after_reply: plan.after = CloseMode::silent; break;
    case Action::chunked:
      plan.chunked = true;
      plan.tell_length = false;
      break;
    case Action::no_content_length:
      plan.tell_length = false;
      plan.tell_close = true;
      plan.after = CloseMode::notify;
      break;
    case Action::lie_short_content_length: plan.told_bytes /= 2; break;
    case Action::lie_long_content_length: plan.told_bytes += kLongerBy; break;
    case Action::wrong_content_range: plan.range_shift = kRangeShift; break;
    default: break;
  }
  return plan;
}

Response make_response(const Reply& reply, const Plan& plan) {
  Response response;
  response.version(11);
  response.result(static_cast<unsigned>(reply.status));
  response.set("server", "upload-server");
  for (const auto& [name, value] : reply.headers) {
    response.insert(name, value);
  }
  if (reply.data) {
    response.set("content-type", "application/octet-stream");
  }
  if (reply.data && reply.data->partial) {
    const std::uint64_t first = reply.data->range.offset + plan.range_shift;
    response.set("content-range", "bytes " + std::to_string(first) + "-" +
                                      std::to_string(first + reply.data->range.length - 1) + "/" +
                                      std::to_string(reply.data->complete_bytes));
  }
  if (plan.tell_length) {
    response.set("content-length", std::to_string(plan.told_bytes));
  }
  if (plan.chunked) {
    response.set("transfer-encoding", "chunked");
  }
  if (plan.tell_close) {
    response.set("connection", "close");
  }
  return response;
}

/// Hands out a reply's body in pieces.
class Body {
 public:
  Body(Reply& reply, std::uint64_t size) : reply_(reply), left_(size) {
    if (reply.data) {
      buffer_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(size, kPieceBytes)));
    }
  }

  [[nodiscard]] bool done() const { return left_ == 0; }

  /// The next piece, which is valid until the next call; nothing if it cannot be read.
  [[nodiscard]] std::optional<std::span<char>> next() {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, kPieceBytes));
    const std::uint64_t at = position_;
    position_ += size;
    left_ -= size;
    if (!reply_.data) {
      return std::span(reply_.body).subspan(static_cast<std::size_t>(at), size);
    }
    const auto piece = std::span(buffer_).first(size);
    if (reply_.data->session->read(reply_.data->range.offset + at, piece)) {
      return std::nullopt;
    }
    return piece;
  }

 private:
  Reply& reply_;
  std::vector<char> buffer_;
  std::uint64_t position_ = 0;
  std::uint64_t left_;
};

void write_text(SyncStream& stream, std::string_view text) {
  boost::system::error_code ignored;
  boost::asio::write(stream, boost::asio::buffer(text.data(), text.size()), ignored);
}

std::string header_text(const Response& response) {
  std::ostringstream text;
  text << response.base();
  return text.str();
}

/// False: the connection is of no more use.
bool send_all(SyncStream& stream, Response& response, Body& body, std::span<char> first_piece) {
  http::response_serializer<http::buffer_body> serializer(response);
  boost::system::error_code ec;
  std::span<char> piece = first_piece;
  for (;;) {
    response.body().data = piece.empty() ? nullptr : piece.data();
    response.body().size = piece.size();
    response.body().more = !body.done();
    http::write(stream, serializer, ec);
    if (ec && ec != http::error::need_buffer) {
      return false;
    }
    if (body.done()) {
      return true;
    }
    const auto next = body.next();
    if (!next) {
      return false;
    }
    piece = *next;
  }
}

}  // namespace

Reply Reply::dropped(CloseMode mode) {
  Reply reply;
  reply.drop = mode;
  return reply;
}

Reply Reply::refused(const Refusal& refusal) {
  Reply reply;
  reply.status = refusal.status;
  reply.headers = {{"content-type", "text/plain; charset=UTF-8"}};
  if (refusal.available_bytes) {
    reply.headers.emplace_back("content-range",
                               "bytes */" + std::to_string(*refusal.available_bytes));
  }
  reply.headers.insert(reply.headers.end(), refusal.headers.begin(), refusal.headers.end());
  reply.body = refusal.text + "\n";
  reply.close = refusal.close;
  return reply;
}

Reply Reply::json(std::string body) {
  Reply reply;
  reply.headers = {{"content-type", "application/json"}};
  reply.body = std::move(body);
  return reply;
}

void send_garbage(Channel& channel) {
  std::array<char, 256> bytes;
  std::minstd_rand random(std::random_device{}());
  std::generate(bytes.begin(), bytes.end(), [&] { return static_cast<char>(random() >> 8); });
  // By chance it must not begin like HTTP.
  bytes[0] = '\x07';
  SyncStream stream(channel);
  write_text(stream, {bytes.data(), bytes.size()});
}

std::optional<CloseMode> send_reply(Channel& channel, Reply reply, const FiredFault& fault,
                                    bool head_only) {
  if (is(fault, Action::garbage)) {
    send_garbage(channel);
    return CloseMode::silent;
  }
  falsify(reply, fault);
  Plan plan = make_plan(reply, fault, head_only);
  Body body(reply, plan.sent_bytes);
  std::span<char> first_piece;
  if (!body.done()) {
    if (const auto piece = body.next()) {
      first_piece = *piece;
    } else {
      return send_reply(channel, Reply::refused({500, "Cannot read the image"}), nullptr,
                        head_only);
    }
  }
  Response response = make_response(reply, plan);
  SyncStream stream(channel);
  if (is(fault, Action::close_mid_reply)) {
    const std::string text = header_text(response);
    const std::size_t end = fault->early ? text.find('\r') : text.size();
    write_text(stream, std::string_view(text).substr(0, end / 2));
    return CloseMode::silent;
  }
  if (is(fault, Action::garbage_status_line)) {
    const std::string text = header_text(response);
    write_text(stream, "HTTQ/one.one 2OO ???" + text.substr(text.find('\r')));
    return CloseMode::silent;
  }
  if (!send_all(stream, response, body, first_piece)) {
    return CloseMode::silent;
  }
  return plan.after;
}

}  // namespace upload::testserver
