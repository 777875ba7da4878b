// SPDX-License-Identifier: BSD-3-Clause
//
// Requests by Boost.Beast's parser.
//
// The parser is asked for the header first; the body is then handed out in pieces of
// whatever size the caller's buffer has, so that nothing larger than that is ever held.
// Bytes that came with a request but belong to the next one stay in the buffer, which
// lives as long as the connection.
//
// Invariant: between read_header() and body_done() only read_body() reads the stream.
//
// Threads: one. Errors: what cannot be parsed is told as text for a 400 reply; anything
// that is wrong with the connection ends it, no matter how.
//
// Limits: a header may have 16 KiB. Chunked bodies are understood by the parser; that
// the API refuses them is the business of the caller.

#include "http_reader.h"

#include <algorithm>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <limits>
#include <vector>

#include "sync_stream.h"

namespace upload::testserver {

namespace http = boost::beast::http;

namespace {

constexpr std::uint32_t kHeaderBytes = 16 * 1024;

boost::beast::string_view to_beast(std::string_view text) { return {text.data(), text.size()}; }

std::string_view from_beast(boost::beast::string_view text) { return {text.data(), text.size()}; }

/// Errors of the parser, as opposed to those of the connection.
bool is_malformed(const boost::system::error_code& ec) {
  return ec.category() == http::make_error_code(http::error::bad_method).category() &&
         ec != http::error::end_of_stream && ec != http::error::partial_message;
}

}  // namespace

struct HttpReader::Parser {
  explicit Parser(Channel& channel) : stream(channel) {}

  SyncStream stream;
  boost::beast::flat_buffer buffer;
  std::optional<http::request_parser<http::buffer_body>> request;
  bool continue_awaited = false;
};

HttpReader::HttpReader(Channel& channel) : parser_(std::make_unique<Parser>(channel)) {}

HttpReader::~HttpReader() = default;

bool HttpReader::has_buffered() const { return parser_->buffer.size() > 0; }

HttpReader::Header HttpReader::read_header(std::string& problem) {
  auto& request = parser_->request.emplace();
  cut_after_.reset();
  request.header_limit(kHeaderBytes);
  // Not boost::none: with that Beast 1.74 refuses every body.
  request.body_limit(std::numeric_limits<std::uint64_t>::max());
  boost::system::error_code ec;
  http::read_header(parser_->stream, parser_->buffer, request, ec);
  if (!ec) {
    const auto expect = request.get()[http::field::expect];
    parser_->continue_awaited = boost::beast::iequals(expect, "100-continue");
    return Header::complete;
  }
  if (is_malformed(ec)) {
    problem = ec.message();
    return Header::malformed;
  }
  return Header::end;
}

std::string_view HttpReader::method() const {
  return from_beast(parser_->request->get().method_string());
}

std::string_view HttpReader::target() const {
  return from_beast(parser_->request->get().target());
}

std::optional<std::string_view> HttpReader::field(std::string_view name) const {
  const auto& fields = parser_->request->get();
  const auto found = fields.find(to_beast(name));
  if (found == fields.end()) {
    return std::nullopt;
  }
  return from_beast(found->value());
}

std::map<std::string, std::string> HttpReader::fields_with(std::string_view prefix) const {
  std::map<std::string, std::string> found;
  for (const auto& field : parser_->request->get()) {
    std::string name(from_beast(field.name_string()));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
    if (name.starts_with(prefix)) {
      found[name] = from_beast(field.value());
    }
  }
  return found;
}

bool HttpReader::keep_alive() const { return parser_->request->keep_alive(); }

bool HttpReader::asks_for_keep_alive() const {
  const auto value = parser_->request->get()[http::field::connection];
  return http::token_list(value).exists("keep-alive");
}

std::optional<std::uint64_t> HttpReader::content_length() const {
  const auto length = parser_->request->content_length();
  return length ? std::optional<std::uint64_t>(*length) : std::nullopt;
}

bool HttpReader::chunked() const { return parser_->request->chunked(); }

bool HttpReader::body_done() const { return parser_->request->is_done(); }

bool HttpReader::continue_awaited() const { return parser_->continue_awaited; }

bool HttpReader::send_continue() {
  if (!parser_->continue_awaited || parser_->request->is_done()) {
    return true;
  }
  parser_->continue_awaited = false;
  boost::system::error_code ec;
  http::response<http::empty_body> go_on(http::status::continue_, 11);
  http::write(parser_->stream, go_on, ec);
  return !ec;
}

std::optional<std::size_t> HttpReader::read_some_body(std::span<char> out) {
  if (!send_continue() || cut_after_ == 0) {
    return std::nullopt;
  }
  if (cut_after_) {
    out = out.first(static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), *cut_after_)));
  }
  auto& request = *parser_->request;
  auto& body = request.get().body();
  body.data = out.data();
  body.size = out.size();
  body.more = true;
  boost::system::error_code ec;
  while (!request.is_done() && body.size == out.size()) {
    http::read_some(parser_->stream, parser_->buffer, request, ec);
    if (ec && ec != http::error::need_buffer) {
      return std::nullopt;
    }
  }
  const std::size_t left = body.size;
  body.data = nullptr;
  body.size = 0;
  if (cut_after_) {
    *cut_after_ -= out.size() - left;
  }
  return out.size() - left;
}

std::optional<std::size_t> HttpReader::read_body(std::span<char> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    const auto size = read_some_body(out.subspan(done));
    if (!size) {
      return std::nullopt;
    }
    if (*size == 0) {
      break;
    }
    done += *size;
  }
  return done;
}

bool HttpReader::discard_body() {
  std::vector<char> unused(body_done() ? 0 : kDiscardBytes);
  while (!body_done()) {
    if (!read_body(unused)) {
      return false;
    }
  }
  return true;
}

}  // namespace upload::testserver
