// SPDX-License-Identifier: BSD-3-Clause
//
// An NBD server as the storage of a ticket, through libnbd.
//
// As in the real daemon each HTTP connection has an NBD connection of its own, opened by
// its first request for the ticket and closed without a flush when the HTTP connection
// goes. What that loses is up to the NBD server; a flush reaches what its own connection
// has written, and more only if the NBD server promises so.
//
// Threads: a session belongs to its connection's thread and uses libnbd's synchronous
// calls. The backend itself only remembers where to connect.
//
// Errors: the errno libnbd tells, EIO if none; a session that failed once may be dead,
// the client has to give the connection up. No reconnecting, no TLS options beyond what
// the URI says, no dirty bitmaps.

#include <libnbd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <string_view>

#include "backend.h"

namespace upload::testserver {

namespace {

constexpr std::string_view kUnixPrefix = "nbd:unix:";
constexpr std::string_view kExportKey = ":exportname=";
constexpr std::uint64_t kZeroStep = 128 * 1024 * 1024;
constexpr std::uint64_t kStatusStep = 1024 * 1024 * 1024;

struct NbdClose {
  void operator()(nbd_handle* nbd) const {
    nbd_shutdown(nbd, 0);
    nbd_close(nbd);
  }
};
using NbdHandle = std::unique_ptr<nbd_handle, NbdClose>;

std::error_code status(int result) {
  if (result == 0) {
    return {};
  }
  const int err = nbd_get_errno();
  return {err != 0 ? err : EIO, std::generic_category()};
}

/// `nbd:unix:PATH[:exportname=NAME]` is the notation of the real daemon's tickets.
bool connect_unix(nbd_handle* nbd, std::string_view address) {
  const auto key = address.find(kExportKey);
  const std::string path(address.substr(0, key));
  if (key != std::string_view::npos) {
    const std::string name(address.substr(key + kExportKey.size()));
    if (nbd_set_export_name(nbd, name.c_str()) != 0) {
      return false;
    }
  }
  return nbd_connect_unix(nbd, path.c_str()) == 0;
}

NbdHandle connect(const std::string& location, std::string& error) {
  NbdHandle nbd(nbd_create());
  bool ok = nbd && nbd_add_meta_context(nbd.get(), LIBNBD_CONTEXT_BASE_ALLOCATION) == 0;
  if (ok && location.starts_with(kUnixPrefix)) {
    ok = connect_unix(nbd.get(), std::string_view(location).substr(kUnixPrefix.size()));
  } else if (ok) {
    ok = nbd_connect_uri(nbd.get(), location.c_str()) == 0;
  }
  if (!ok) {
    error = location + ": " + nbd_get_error();
    return nullptr;
  }
  return nbd;
}

/// libnbd's callback for block status; `user_data` is a vector of extents.
int collect_extents(void* user_data, const char* context, std::uint64_t offset,
                    std::uint32_t* entries, std::size_t count, int* error) noexcept {
  if (std::string_view(context) != LIBNBD_CONTEXT_BASE_ALLOCATION) {
    return 0;
  }
  try {
    auto& extents = *static_cast<std::vector<Extent>*>(user_data);
    for (std::size_t i = 0; i + 1 < count; i += 2) {
      const std::uint32_t flags = entries[i + 1];
      append_extent(extents, {{offset, entries[i]},
                              (flags & LIBNBD_STATE_ZERO) != 0,
                              (flags & LIBNBD_STATE_HOLE) != 0});
      offset += entries[i];
    }
    return 0;
  } catch (const std::bad_alloc&) {
    *error = ENOMEM;
    return -1;
  }
}

class NbdSession : public Session {
 public:
  NbdSession(NbdHandle nbd, std::uint64_t size, bool sparse)
      : nbd_(std::move(nbd)), size_(size), sparse_(sparse) {}

  std::error_code read(std::uint64_t offset, std::span<char> out) override {
    if (out.empty()) {
      return {};
    }
    return status(nbd_pread(nbd_.get(), out.data(), out.size(), offset, 0));
  }

  std::error_code write(std::uint64_t offset, std::span<const char> data) override {
    if (data.empty()) {
      return {};
    }
    return status(nbd_pwrite(nbd_.get(), data.data(), data.size(), offset, 0));
  }

  std::error_code zero(const ByteRange& range) override;

  std::error_code flush() override {
    // A server that has no flush has no cache either.
    return nbd_can_flush(nbd_.get()) == 1 ? status(nbd_flush(nbd_.get(), 0)) : std::error_code();
  }

  std::error_code extents(std::vector<Extent>& out) override;

 private:
  const NbdHandle nbd_;
  const std::uint64_t size_;
  const bool sparse_;
};

std::error_code NbdSession::zero(const ByteRange& range) {
  static constexpr std::array<char, 256 * 1024> kZeroes{};
  const bool native = nbd_can_zero(nbd_.get()) == 1;
  const std::uint64_t step = native ? kZeroStep : kZeroes.size();
  const std::uint32_t flags = sparse_ ? 0 : LIBNBD_CMD_FLAG_NO_HOLE;
  for (std::uint64_t at = range.offset; at < range.end();) {
    const std::uint64_t n = std::min(step, range.end() - at);
    const auto ec = native ? status(nbd_zero(nbd_.get(), n, at, flags))
                           : write(at, std::span(kZeroes).first(static_cast<std::size_t>(n)));
    if (ec) {
      return ec;
    }
    at += n;
  }
  return {};
}

std::error_code NbdSession::extents(std::vector<Extent>& out) {
  if (nbd_can_meta_context(nbd_.get(), LIBNBD_CONTEXT_BASE_ALLOCATION) != 1) {
    append_extent(out, {{0, size_}, false, false});
    return {};
  }
  std::uint64_t at = 0;
  while (at < size_) {
    const nbd_extent_callback callback = {collect_extents, &out, nullptr};
    const std::uint64_t n = std::min(kStatusStep, size_ - at);
    if (const auto ec = status(nbd_block_status(nbd_.get(), n, at, callback, 0))) {
      return ec;
    }
    const std::uint64_t end = out.empty() ? 0 : out.back().range.end();
    if (end <= at) {
      return std::make_error_code(std::errc::protocol_error);
    }
    at = end;
  }
  // A server may tell of more than it was asked for; the ticket may be smaller.
  if (!out.empty()) {
    out.back().range.length -= out.back().range.end() - size_;
  }
  return {};
}

class NbdBackend : public Backend {
 public:
  explicit NbdBackend(const TicketOptions& ticket)
      : location_(ticket.location), sparse_(ticket.sparse), size_(ticket.size_bytes) {
    if (size_ == 0) {
      std::string error;
      const auto nbd = connect(location_, error);
      const std::int64_t size = nbd ? nbd_get_size(nbd.get()) : -1;
      if (size < 0) {
        throw std::runtime_error(error.empty() ? nbd_get_error() : error);
      }
      size_ = static_cast<std::uint64_t>(size);
    }
  }

  std::unique_ptr<Session> open(ConnectionId, PeerGone, std::string& error) override {
    auto nbd = connect(location_, error);
    if (!nbd) {
      return nullptr;
    }
    return std::make_unique<NbdSession>(std::move(nbd), size_, sparse_);
  }

  std::uint64_t size() const override { return size_; }
  std::size_t chunk_size() const override { return 1024 * 1024; }

 private:
  const std::string location_;
  const bool sparse_;
  std::uint64_t size_;  // constant after construction
};

}  // namespace

std::shared_ptr<Backend> make_nbd_backend(const TicketOptions& ticket) {
  return std::make_shared<NbdBackend>(ticket);
}

}  // namespace upload::testserver
