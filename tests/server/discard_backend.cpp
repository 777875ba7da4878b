// SPDX-License-Identifier: BSD-3-Clause
//
// Storage that costs nothing: for measuring everything but storage.
//
// Writes, zeroes and flushes succeed and leave no trace; reads give zeroes; the image is
// one hole. Bodies are still read and decrypted in full.
//
// Threads: no state at all. It never fails. Not for tests of content.

#include <algorithm>
#include <stdexcept>

#include "backend.h"

namespace upload::testserver {

namespace {

class DiscardSession : public Session {
 public:
  explicit DiscardSession(std::uint64_t size) : size_(size) {}

  std::error_code read(std::uint64_t, std::span<char> out) override {
    std::fill(out.begin(), out.end(), '\0');
    return {};
  }
  std::error_code write(std::uint64_t, std::span<const char>) override { return {}; }
  std::error_code zero(const ByteRange&) override { return {}; }
  std::error_code flush() override { return {}; }
  std::error_code extents(std::vector<Extent>& out) override {
    append_extent(out, {{0, size_}, true, true});
    return {};
  }

 private:
  const std::uint64_t size_;
};

class DiscardBackend : public Backend {
 public:
  explicit DiscardBackend(std::uint64_t size) : size_(size) {}

  std::unique_ptr<Session> open(ConnectionId, PeerGone, std::string&) override {
    return std::make_unique<DiscardSession>(size_);
  }
  std::uint64_t size() const override { return size_; }
  // Small, so that the bytes are dropped before they have left the cache.
  std::size_t chunk_size() const override { return 128 * 1024; }

 private:
  const std::uint64_t size_;
};

}  // namespace

std::shared_ptr<Backend> make_discard_backend(const TicketOptions& ticket) {
  if (ticket.size_bytes == 0) {
    throw std::runtime_error("ticket " + ticket.id + ": discard needs a size");
  }
  return std::make_shared<DiscardBackend>(ticket.size_bytes);
}

}  // namespace upload::testserver
