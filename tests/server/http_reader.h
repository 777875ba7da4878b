// SPDX-License-Identifier: BSD-3-Clause
//
// Reads requests from a connection, one after the other.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "channel.h"

namespace upload::testserver {

/// Used by the connection's thread only. Views stay valid until the next read_header().
class HttpReader {
 public:
  explicit HttpReader(Channel& channel);
  ~HttpReader();
  HttpReader(const HttpReader&) = delete;
  HttpReader& operator=(const HttpReader&) = delete;

  /// Whether bytes of the next request are here already.
  [[nodiscard]] bool has_buffered() const;

  enum class Header {
    complete,
    end,        // the connection ended between two requests, or failed
    malformed,  // `problem` says how; the connection is of no more use
  };
  /// Starts a new request: what is left of the body of the previous one must have been
  /// read.
  [[nodiscard]] Header read_header(std::string& problem);

  [[nodiscard]] std::string_view method() const;
  [[nodiscard]] std::string_view target() const;
  [[nodiscard]] std::optional<std::string_view> field(std::string_view name) const;
  /// Those whose names begin with `prefix` (in lower case), by their names in lower case.
  [[nodiscard]] std::map<std::string, std::string> fields_with(std::string_view prefix) const;
  /// What the client wants.
  [[nodiscard]] bool keep_alive() const;
  /// Whether it says so, which it need not in HTTP/1.1.
  [[nodiscard]] bool asks_for_keep_alive() const;

  [[nodiscard]] std::optional<std::uint64_t> content_length() const;
  [[nodiscard]] bool chunked() const;
  /// Whether nothing of the body is left to be read.
  [[nodiscard]] bool body_done() const;
  /// Whether the client waits for `100 Continue` and has sent nothing of the body, perhaps.
  [[nodiscard]] bool continue_awaited() const;

  /// Fills `out` unless the body ends before; nothing when the connection fails. Sends
  /// `100 Continue` before the first byte if the client waits for that.
  [[nodiscard]] std::optional<std::size_t> read_body(std::span<char> out);
  /// The same, but returns as soon as something has arrived; 0 at the end of the body.
  [[nodiscard]] std::optional<std::size_t> read_some_body(std::span<char> out);
  /// The body ends like that of a connection that fails, when so many bytes have been read.
  void cut_body(std::uint64_t bytes) { cut_after_ = bytes; }
  /// Reads what is left of the body, and forgets it; false when the connection fails.
  [[nodiscard]] bool discard_body();

 private:
  [[nodiscard]] bool send_continue();
  static constexpr std::size_t kDiscardBytes = 64 * 1024;

  struct Parser;
  std::unique_ptr<Parser> parser_;
  std::optional<std::uint64_t> cut_after_;  // bytes of the body; nothing: it is whole
};

}  // namespace upload::testserver
