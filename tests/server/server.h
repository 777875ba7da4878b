// SPDX-License-Identifier: BSD-3-Clause
//
// A server that speaks the images API of ovirt-imageio and can be told to misbehave.
// Source of the API: docs/images.md of github.com/oVirt/ovirt-imageio.
//
// Durability (BackendKind::memory). A ticket has a *view*, what all reads see, and a
// *stable* image, what would be left after the storage lost its caches. A change by
// connection C goes to the view, and C owns its range until somebody else changes it,
// which makes what C had there stable.
//   - A flush by C that succeeds makes what C owns stable. A change with flush=y is the
//     change, then such a flush.
//   - When C goes away, for whatever reason, what C owns returns to its stable content:
//     acknowledged, unflushed changes are lost.
//   - An injected error status (from 400 on) for a flush, or for a change with flush=y,
//     loses all that C owns, as a failed fsync does. The same holds for an injected 500
//     for any request, since the storage client behind the connection may be dead. Any
//     other injected error for a change only means that this one was not applied.
//   - A change whose client has gone before it could be applied is not applied. The
//     exception is late apply: a change that met Action::close_after_body is applied so
//     long after its connection has gone, view and stable, owned by nobody.
// The other backends store what they are given at once; flush is fdatasync or NBD flush.
//
// Thread safety: every function may be called from any thread at any time, except that
// start(), stop(), restart() and the destructor exclude each other and the functions
// that wait may not be called from within a predicate of wait_until().
// Errors: std::runtime_error with one line of text, from whatever sets something up,
// names an unknown ticket or leaves an image; nothing else throws but allocation.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "counters.h"
#include "fault.h"
#include "options.h"

namespace upload::testserver {

class Server {
 public:
  explicit Server(ServerOptions options = {});
  ~Server();  // as stop()
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Binds, listens and accepts. When it returns clients can connect.
  void start();

  /// Closes the listeners and all connections, silently, and joins all threads. Tickets,
  /// faults and counters stay. Stalled requests end too. Does nothing when not started.
  void stop();

  /// stop() and start() on the same port: a daemon that crashed and came back.
  void restart();

  /// Connects are refused from now on; connections stay.
  void stop_listening();
  void resume_listening();  // on the same port

  /// Clients can connect, but are not accepted: their handshake hangs.
  void pause_accepting();
  void resume_accepting();

  /// Closes connections silently, and returns when their unflushed changes are dropped.
  void drop_all_connections();
  /// The same for those that wait for a request at this moment; returns how many.
  std::size_t close_idle_connections();

  /// Lets all requests go on that are stalled now. Later ones stall again.
  void release_stalled();

  [[nodiscard]] std::uint16_t port() const;  // 0 before the first start()
  /// "https://localhost:PORT/images/ID", or http.
  [[nodiscard]] std::string url(const std::string& ticket_id) const;
  /// PEM file that signed the server's certificate; empty without TLS.
  [[nodiscard]] std::string ca_file() const;

  /// Adds a ticket, or replaces the one of the same id together with its content.
  void add_ticket(TicketOptions ticket);
  /// Requests are answered 403 from now on; the content can still be read here.
  void remove_ticket(const std::string& id);
  /// All there are, with their sizes, those included that clients have made and not deleted.
  [[nodiscard]] std::vector<TicketOptions> tickets() const;
  /// The same with another text; renew_ticket() undoes both.
  void expire_ticket(const std::string& id);
  void renew_ticket(const std::string& id);

  void add_fault(Fault fault);
  void clear_faults();

  void set_request_delay(std::chrono::milliseconds delay);
  void set_idle_close(std::chrono::milliseconds idle);   // 0: never
  void set_late_apply(std::chrono::milliseconds after);  // 0: off
  void set_require_authorization(std::string value);     // empty: none is needed
  void set_azure_sas(std::string query);                 // see AzureOptions::sas
  /// Lets Azure's leases grow older by so much, at once.
  void advance_leases(std::chrono::seconds time);

  [[nodiscard]] Counters counters() const;
  /// Waits until the predicate holds, at most `deadline` long; says whether it does. The
  /// predicate runs with the counters locked: it must not call the server.
  [[nodiscard]] bool wait_until(const std::function<bool(const Counters&)>& predicate,
                                std::chrono::milliseconds deadline) const;
  /// In the order in which the requests were done; the oldest ones only, at most
  /// event_limit.
  [[nodiscard]] std::vector<Event> events() const;

  [[nodiscard]] std::vector<char> read_stable(const std::string& id, std::uint64_t offset,
                                              std::size_t length) const;
  [[nodiscard]] std::vector<char> read_view(const std::string& id, std::uint64_t offset,
                                            std::size_t length) const;
  /// Initial content: stable and in view, owned by nobody.
  void fill(const std::string& id, std::uint64_t offset, std::span<const char> data);

  /// The first offset at which the stable content and the file at `path` differ, their
  /// different length included; nothing when they are equal.
  [[nodiscard]] std::optional<std::uint64_t> stable_difference(const std::string& id,
                                                               const std::string& path) const;
  [[nodiscard]] bool stable_equals(const std::string& id, const std::string& path) const;
  /// How many bytes are owned by any connection: 0 when view and stable agree.
  [[nodiscard]] std::uint64_t unflushed_bytes(const std::string& id) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace upload::testserver
