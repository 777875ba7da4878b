// SPDX-License-Identifier: BSD-3-Clause
//
// How a server and its tickets are configured. Plain values.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace upload::testserver {

/// Where a ticket's bytes live.
enum class BackendKind {
  memory,   // sparse, with the durability model of server.h; may be several GiB
  file,     // a plain file or block device: what is written is there at once
  nbd,      // one libnbd connection for each (HTTP connection, ticket)
  discard,  // writes go nowhere, reads give zeroes: for benchmarks
};

/// What a server speaks.
enum class ProtocolKind {
  imageio,  // the images API of ovirt-imageio
  azure,    // page blobs of Azure's blob service
  webdav,   // files, which a PUT with Content-Range changes in place, as Apache's mod_dav_fs does
};

/// What a PUT with Content-Range does, for ProtocolKind::webdav.
enum class ContentRangeMode {
  applied,  // changes that range
  ignored,  // replaces the file by the range's data: a server that knows no Content-Range
  refused,  // 501
};

/// How OPTIONS answers for a ticket.
enum class OptionsMode {
  json,                // as the real daemon does
  method_not_allowed,  // 405: an old server
  no_content,          // 204, empty: an old server
};

/// One image as it is offered to clients.
struct TicketOptions {
  std::string id = "ticket";
  BackendKind backend = BackendKind::memory;
  std::string location{};        // file: the path. nbd: `nbd:unix:PATH[:exportname=NAME]` or a
                                 // libnbd URI. memory: a directory for (unlinked) temporary
                                 // files, empty: memory. discard: nothing
  std::uint64_t size_bytes = 0;  // 0: what file or nbd have; needed for the others.
                                 // A file that is missing or shorter is made this long
  bool writable = true;          // false: changes and flush answer 403
  bool sparse = true;            // zeroing makes holes
  std::vector<std::string> features{"checksum", "extents", "flush", "zero"};
  unsigned max_readers = 0;  // told by OPTIONS, not enforced; 0: 8
  unsigned max_writers = 0;  // the same; 0: 8, and 1 for file
  bool tell_limits = true;   // false: OPTIONS has neither of these two
  OptionsMode options_mode = OptionsMode::json;
  std::chrono::milliseconds inactivity_timeout{0};  // replaces the idle time-out of
                                                    // connections that used the ticket
  std::chrono::milliseconds timeout{0};             // expires so long after its last completed
                                                    // operation or OPTIONS; 0: never
};

/// For ProtocolKind::azure. A ticket is the blob /ACCOUNT/CONTAINER/ID, or /CONTAINER/ID. Who may
/// send requests: see azure_authorization.h; bearer tokens are those of token_file, and
/// require_authorization.
struct AzureOptions {
  std::string account = "account";
  std::string container = "images";
  std::string shared_key{};  // base64; empty: no request is signed with a key
  std::string sas{};         // a query such as "sp=rw&se=...&sig=..."; empty: none is taken
  // The blobs are managed disks that are uploaded to: they exist, have no lease, can be neither
  // made nor deleted, and take no Content-MD5.
  bool managed_disk = false;
  std::size_t pages_per_list = 10'000;  // further ones need the marker
};

struct ServerOptions {
  std::string listen_address = "127.0.0.1";
  std::uint16_t port = 0;  // 0: any free one, kept through stop() and start()
  ProtocolKind protocol = ProtocolKind::imageio;
  AzureOptions azure{};
  ContentRangeMode webdav_content_range = ContentRangeMode::applied;

  bool tls = true;  // on TCP; a unix socket is always plain
  // PEM files. Without cert_file a CA and a certificate for localhost are generated in a
  // directory that the server makes and removes.
  std::string cert_file{};
  std::string key_file{};
  std::string ca_file{};         // only handed back by Server::ca_file()
  std::string client_ca_file{};  // not empty: clients need a certificate signed by it

  std::string unix_socket{};             // also listen here: a path, or @NAME for an abstract one
  bool advertise_unix_socket = true;     // tell it in OPTIONS
  std::string advertised_unix_socket{};  // tell this instead (and always); @NAME as above

  std::string require_authorization{};  // exact Authorization header, else 401
  // A file of bearer tokens, one on each line, with the time when it expires, in seconds since
  // 1970, after a blank. It is read for each request. One of them that has not expired is
  // needed, else token_status.
  std::string token_file{};
  int token_status = 401;
  // Further headers that must be there, else 403; an empty value: any will do.
  std::vector<std::pair<std::string, std::string>> required_headers{};

  std::chrono::milliseconds request_delay{0};    // slept before every request is done
  std::chrono::milliseconds idle_close{60'000};  // 0: never
  // The reply to a connection's last one says `Connection: close`; the others, as Apache's, how
  // many are left, in Keep-Alive, to a client that asks for keep-alive. 0: no limit.
  unsigned requests_per_connection = 0;
  std::chrono::milliseconds late_apply{0};  // 0: off; see server.h
  std::size_t event_limit = 0;              // how many entries the event log holds; 0: off
};

}  // namespace upload::testserver
