// SPDX-License-Identifier: BSD-3-Clause
//
// What all backends share: their choice by kind, the default way in which tests look
// into an image, and the merging of extents.
//
// A backend without a durability model has no difference between what is stable and
// what is seen, so by default all of the functions for tests go through a session of
// their own, with a connection id that no connection has.
//
// Threads: everything here may be called from any thread. Errors: these functions are
// for tests, so they throw.

#include "backend.h"

#include <stdexcept>

namespace upload::testserver {

namespace {

constexpr ConnectionId kNoConnection = 0;

std::unique_ptr<Session> open_for_tests(Backend& backend) {
  std::string error;
  auto session = backend.open(
      kNoConnection, [] { return false; }, error);
  if (!session) {
    throw std::runtime_error(error);
  }
  return session;
}

void check(const std::error_code& ec, const char* what) {
  if (ec) {
    throw std::system_error(ec, what);
  }
}

}  // namespace

void append_extent(std::vector<Extent>& extents, const Extent& extent) {
  if (extent.range.length == 0) {
    return;
  }
  if (!extents.empty()) {
    Extent& last = extents.back();
    if (last.range.end() == extent.range.offset && last.zero == extent.zero &&
        last.hole == extent.hole) {
      last.range.length += extent.range.length;
      return;
    }
  }
  extents.push_back(extent);
}

std::error_code Backend::grow(std::uint64_t wanted) {
  return wanted <= size() ? std::error_code()
                          : std::make_error_code(std::errc::no_space_on_device);
}

void Backend::read_stable(std::uint64_t offset, std::span<char> out) {
  check(open_for_tests(*this)->read(offset, out), "reading an image");
}

void Backend::read_view(std::uint64_t offset, std::span<char> out) { read_stable(offset, out); }

void Backend::fill(std::uint64_t offset, std::span<const char> data) {
  const auto session = open_for_tests(*this);
  check(session->write(offset, data), "filling an image");
  check(session->flush(), "flushing an image");
}

std::shared_ptr<Backend> make_backend(const TicketOptions& ticket, CounterBoard& board) {
  switch (ticket.backend) {
    case BackendKind::memory: return make_durable_backend(ticket, board);
    case BackendKind::file: return make_file_backend(ticket);
    case BackendKind::nbd: return make_nbd_backend(ticket);
    case BackendKind::discard: return make_discard_backend(ticket);
  }
  throw std::runtime_error("ticket " + ticket.id + ": unknown kind of backend");
}

}  // namespace upload::testserver
