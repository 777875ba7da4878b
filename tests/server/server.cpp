// SPDX-License-Identifier: BSD-3-Clause
//
// The server as tests see it: puts the parts together and hands the calls on.
//
// Who owns what: Impl owns the shared state (tickets, faults, counters), the TLS context,
// the registry of connections with their threads, and the acceptor with its thread. They
// are taken down in the opposite order: first nobody is accepted any more, then the
// connections end and with them the last users of everything else.
//
// A certificate of its own is written to a directory below TMPDIR, which the destructor
// removes.
//
// Threads: the caller's; everything shared has its own lock. lifecycle_mutex_ only keeps
// stop_listening() and its like apart from start() and stop(). Errors: see server.h.

#include "server.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "acceptor.h"
#include "certificates.h"
#include "fixture/temporary_directory.h"
#include "protocol.h"
#include "registry.h"
#include "server_state.h"
#include "sparse_file.h"
#include "tls_context.h"

namespace upload::testserver {

namespace {

constexpr std::uint64_t kCompareBytes = 1024 * 1024;

using fixture::TemporaryDirectory;

void check_inside(const Ticket& ticket, const ByteRange& range) {
  if (check_range(range, ticket.size())) {
    throw std::runtime_error("ticket " + ticket.options().id + " ends before " +
                             std::to_string(range.offset) + " + " + std::to_string(range.length));
  }
}

/// The offset of the first difference within the range, if there is one.
std::optional<std::uint64_t> difference(Backend& backend, const SparseFile& file,
                                        const ByteRange& range) {
  const auto piece = file.piece_at(range);
  if (piece.hole && piece.range == range && backend.stable_is_hole(range)) {
    return std::nullopt;
  }
  std::vector<char> expected(static_cast<std::size_t>(range.length));
  std::vector<char> stable(expected.size());
  if (const auto ec = file.read(range.offset, expected)) {
    throw std::system_error(ec, "reading the file to compare with");
  }
  backend.read_stable(range.offset, stable);
  const auto found = std::mismatch(stable.begin(), stable.end(), expected.begin());
  if (found.first == stable.end()) {
    return std::nullopt;
  }
  return range.offset + static_cast<std::uint64_t>(found.first - stable.begin());
}

}  // namespace

class Server::Impl {
 public:
  explicit Impl(ServerOptions options)
      : state(std::move(options)), registry(state), acceptor(state, registry) {}

  [[nodiscard]] std::shared_ptr<Ticket> ticket(const std::string& id) const {
    auto found = state.tickets.find(id);
    if (!found) {
      throw std::runtime_error("no such ticket: " + id);
    }
    return found;
  }

  void set_up_tls() {
    if (!state.options.tls || tls) {
      return;
    }
    std::string cert = state.options.cert_file;
    std::string key = state.options.key_file;
    if (cert.empty()) {
      directory = std::make_unique<TemporaryDirectory>();
      const CertificateFiles files = write_certificates(directory->path());
      cert = files.cert;
      key = files.key;
    }
    tls = make_tls_context(cert, key, state.options.client_ca_file);
  }

  void listen() {
    if (!acceptor.running()) {
      acceptor.start(tls.get());
    }
  }

  ServerState state;
  std::unique_ptr<TemporaryDirectory> directory;  // set once, before the first start
  TlsContext tls;                                 // the same
  Registry registry;
  Acceptor acceptor;

  std::mutex lifecycle_mutex;  // protects started, and the acceptor's start and stop
  bool started = false;
};

Server::Server(ServerOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {
  // Here, so that ca_file() is constant from the beginning.
  impl_->set_up_tls();
}

Server::~Server() { stop(); }

void Server::start() {
  const std::lock_guard lock(impl_->lifecycle_mutex);
  if (!impl_->started) {
    impl_->listen();
    impl_->state.late_applier.start();
    impl_->started = true;
  }
}

void Server::stop() {
  const std::lock_guard lock(impl_->lifecycle_mutex);
  if (impl_->started) {
    impl_->acceptor.stop();
    impl_->registry.drop_all();
    impl_->state.late_applier.stop();
    impl_->started = false;
  }
}

void Server::restart() {
  stop();
  start();
}

void Server::stop_listening() {
  const std::lock_guard lock(impl_->lifecycle_mutex);
  impl_->acceptor.stop();
}

void Server::resume_listening() {
  const std::lock_guard lock(impl_->lifecycle_mutex);
  if (impl_->started) {
    impl_->listen();
  }
}

void Server::pause_accepting() { impl_->acceptor.pause(); }

void Server::resume_accepting() { impl_->acceptor.resume(); }

void Server::drop_all_connections() { impl_->registry.drop_all(); }

std::size_t Server::close_idle_connections() { return impl_->registry.drop_idle(); }

void Server::release_stalled() {
  ++impl_->state.releases;
  impl_->registry.wake_all();
}

std::uint16_t Server::port() const { return impl_->acceptor.port(); }

std::string Server::url(const std::string& ticket_id) const {
  return (impl_->state.options.tls ? "https://localhost:" : "http://localhost:") +
         std::to_string(port()) + path_of(impl_->state.options, ticket_id);
}

std::string Server::ca_file() const {
  if (impl_->directory) {
    return certificate_files(impl_->directory->path()).ca;
  }
  return impl_->state.options.ca_file;
}

void Server::add_ticket(TicketOptions ticket) {
  if (ticket.backend == BackendKind::memory && ticket.size_bytes == 0) {
    throw std::runtime_error("ticket " + ticket.id + ": memory needs a size");
  }
  auto backend = make_backend(ticket, impl_->state.board);
  impl_->state.tickets.add(std::make_shared<Ticket>(std::move(ticket), std::move(backend)));
}

void Server::remove_ticket(const std::string& id) {
  impl_->ticket(id)->set_state(Ticket::State::removed);
}

std::vector<TicketOptions> Server::tickets() const {
  std::vector<TicketOptions> all;
  for (const auto& ticket : impl_->state.tickets.all()) {
    if (ticket->state() != Ticket::State::removed) {
      all.push_back(ticket->options());
      all.back().size_bytes = ticket->size();
    }
  }
  return all;
}

void Server::expire_ticket(const std::string& id) {
  impl_->ticket(id)->set_state(Ticket::State::expired);
}

void Server::renew_ticket(const std::string& id) {
  impl_->ticket(id)->set_state(Ticket::State::valid);
}

void Server::add_fault(Fault fault) { impl_->state.faults.add(std::move(fault)); }

void Server::clear_faults() { impl_->state.faults.clear(); }

void Server::set_request_delay(std::chrono::milliseconds delay) {
  impl_->state.request_delay = delay;
}

void Server::set_idle_close(std::chrono::milliseconds idle) {
  impl_->state.idle_close = idle;
  impl_->registry.wake_all();
}

void Server::set_late_apply(std::chrono::milliseconds after) { impl_->state.late_apply = after; }

void Server::set_require_authorization(std::string value) {
  impl_->state.set_require_authorization(std::move(value));
}

void Server::set_azure_sas(std::string query) { impl_->state.set_azure_sas(std::move(query)); }

void Server::advance_leases(std::chrono::seconds time) { impl_->state.blobs.advance(time); }

Counters Server::counters() const { return impl_->state.board.snapshot(); }

bool Server::wait_until(const std::function<bool(const Counters&)>& predicate,
                        std::chrono::milliseconds deadline) const {
  return impl_->state.board.wait_until(predicate, deadline);
}

std::vector<Event> Server::events() const { return impl_->state.board.events(); }

std::vector<char> Server::read_stable(const std::string& id, std::uint64_t offset,
                                      std::size_t length) const {
  const auto ticket = impl_->ticket(id);
  check_inside(*ticket, {offset, length});
  std::vector<char> data(length);
  ticket->backend().read_stable(offset, data);
  return data;
}

std::vector<char> Server::read_view(const std::string& id, std::uint64_t offset,
                                    std::size_t length) const {
  const auto ticket = impl_->ticket(id);
  check_inside(*ticket, {offset, length});
  std::vector<char> data(length);
  ticket->backend().read_view(offset, data);
  return data;
}

void Server::fill(const std::string& id, std::uint64_t offset, std::span<const char> data) {
  const auto ticket = impl_->ticket(id);
  check_inside(*ticket, {offset, data.size()});
  ticket->backend().fill(offset, data);
  if (const auto blob = ticket->blob()) {
    blob->filled({offset, data.size()});
  }
}

std::optional<std::uint64_t> Server::stable_difference(const std::string& id,
                                                       const std::string& path) const {
  const auto ticket = impl_->ticket(id);
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0) {
    throw std::runtime_error(path + ": " + std::generic_category().message(errno));
  }
  const SparseFile file(std::move(fd));
  const auto file_size = static_cast<std::uint64_t>(status.st_size);
  const std::uint64_t common = std::min(file_size, ticket->size());
  for (std::uint64_t at = 0; at < common; at += kCompareBytes) {
    const std::uint64_t length = std::min(kCompareBytes, common - at);
    if (const auto found = difference(ticket->backend(), file, {at, length})) {
      return found;
    }
  }
  return file_size == ticket->size() ? std::nullopt : std::optional(common);
}

bool Server::stable_equals(const std::string& id, const std::string& path) const {
  return !stable_difference(id, path);
}

std::uint64_t Server::unflushed_bytes(const std::string& id) const {
  return impl_->ticket(id)->backend().unflushed_bytes();
}

}  // namespace upload::testserver
