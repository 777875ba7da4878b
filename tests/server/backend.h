// SPDX-License-Identifier: BSD-3-Clause
//
// What a ticket's bytes are kept in, and what one connection does with them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "byte_range.h"
#include "counters.h"
#include "options.h"

namespace upload::testserver {

/// A piece of an image that is all alike, as the extents request tells it.
struct Extent {
  ByteRange range{};
  bool zero = false;
  bool hole = false;

  friend bool operator==(const Extent&, const Extent&) = default;
};

/// Appends, or makes the last extent longer when it is adjacent and of the same kind.
void append_extent(std::vector<Extent>& extents, const Extent& extent);

/// The storage client of one (connection, ticket). Used by one thread. Its destruction
/// means that the connection has gone. Ranges are within the image: callers check.
class Session {
 public:
  Session() = default;
  virtual ~Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] virtual std::error_code read(std::uint64_t offset, std::span<char> out) = 0;
  /// ECONNABORTED: not done, the client has gone.
  [[nodiscard]] virtual std::error_code write(std::uint64_t offset,
                                              std::span<const char> data) = 0;
  [[nodiscard]] virtual std::error_code zero(const ByteRange& range) = 0;
  [[nodiscard]] virtual std::error_code flush() = 0;
  /// The whole image, in order and without gaps.
  [[nodiscard]] virtual std::error_code extents(std::vector<Extent>& out) = 0;

  /// What a failed fsync does: unflushed changes are lost, the session goes on. Only the
  /// durability model knows what that means.
  virtual void lose_unflushed() {}
};

/// Says whether a connection's client has gone; called from any thread.
using PeerGone = std::function<bool()>;

/// Where a ticket's bytes live. Thread safe. The functions for tests throw
/// std::system_error.
class Backend {
 public:
  Backend() = default;
  virtual ~Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  /// Null with `error` set (one line) when the storage cannot be reached. `gone` and the
  /// backend must outlive the session.
  [[nodiscard]] virtual std::unique_ptr<Session> open(ConnectionId connection, PeerGone gone,
                                                      std::string& error) = 0;

  [[nodiscard]] virtual std::uint64_t size() const = 0;
  /// Makes the image at least so long, by a hole.
  [[nodiscard]] virtual std::error_code grow(std::uint64_t size);
  /// How much of a body is best handed over at once, in bytes.
  [[nodiscard]] virtual std::size_t chunk_size() const = 0;
  [[nodiscard]] virtual unsigned max_writers() const { return 8; }

  // For tests.
  virtual void read_stable(std::uint64_t offset, std::span<char> out);
  virtual void read_view(std::uint64_t offset, std::span<char> out);
  virtual void fill(std::uint64_t offset, std::span<const char> data);
  [[nodiscard]] virtual std::uint64_t unflushed_bytes() const { return 0; }
  /// Whether the stable content of the range is known to be zero without reading it.
  [[nodiscard]] virtual bool stable_is_hole(const ByteRange&) const { return false; }
};

/// Makes the backend of a ticket. Throws std::runtime_error.
[[nodiscard]] std::shared_ptr<Backend> make_backend(const TicketOptions& ticket,
                                                    class CounterBoard& board);

[[nodiscard]] std::shared_ptr<Backend> make_durable_backend(const TicketOptions& ticket,
                                                            CounterBoard& board);
[[nodiscard]] std::shared_ptr<Backend> make_file_backend(const TicketOptions& ticket);
[[nodiscard]] std::shared_ptr<Backend> make_nbd_backend(const TicketOptions& ticket);
[[nodiscard]] std::shared_ptr<Backend> make_discard_backend(const TicketOptions& ticket);

}  // namespace upload::testserver
