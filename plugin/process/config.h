// SPDX-License-Identifier: BSD-3-Clause
//
// Config: the plugin's parameters, from key=value texts to checked values.
//
// Every failure is one line that names the key, the value and what would be
// right; values that may be secret are not shown. Not thread safe: nbdkit
// reads parameters on one thread before anything starts.

#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "http/origin.h"

namespace upload {

// What becomes of what earlier runs have left in the spool's directory.
enum class SpoolLeftovers {
  kFail,     // what is of the same path under another host must be decided
  kSend,     // that is sent, too
  kDiscard,  // all is dropped, also what is of the same URL
};

// Constant once made.
struct Config {
  // One disk of several.
  struct Export {
    std::string name;
    http::Url url;
    std::optional<uint64_t> size;  // bytes
    std::string claim_name{};      // empty: the URL
  };

  // How requests show that they are allowed; at most one of the ways. Empty: not given.
  struct Access {
    // With token_url: who asks for a token (RFC 6749, section 4.3). Without: as in RFC 7617.
    std::string user;
    std::string password;
    std::string token;  // the same for ever
    std::optional<http::Url> token_url;
    std::string client_id;
    std::string client_secret;
    std::string scope;
    std::string token_script;
    bool reuse_session = true;      // one login for all; else each connection has its own
    bool validate_session = false;  // ask the server when a client connects

    [[nodiscard]] bool has_login() const { return token_url || !token_script.empty(); }
  };

  // Who may upload to the disk at a time. At most one of the ways.
  struct Claim {
    std::string directory;                      // of lock files; empty: none
    std::vector<http::Url> members;             // of an etcd cluster; empty: none
    bool native = false;                        // the target's own lease
    Duration lease = std::chrono::seconds(30);  // with members
    Duration wait{0};
    bool steal = false;

    [[nodiscard]] bool wanted() const { return native || !directory.empty() || !members.empty(); }
  };

  // Its url is the upload URL; unix_socket as below. Nothing of `access` is in it.
  http::Origin origin;
  Access access;
  bool timeout_given = false;  // else the target's own default counts
  std::string target = "auto";
  bool create = false;           // a disk that is not there
  bool checksum = false;         // with each write
  std::optional<uint64_t> size;  // bytes
  // If there are any, url and size are theirs and not the ones above.
  std::vector<Export> exports;
  Claim claim;
  std::string claim_name;      // empty: the URL
  bool start_any = false;      // an export that can't be reached does not end the start
  bool auto_socket = false;    // use the unix socket that the server tells of
  std::optional<bool> direct;  // our connections are the server's; none: ask
  unsigned connections = 4;
  uint64_t max_request = uint64_t{4} << 20;  // bytes
  Duration idle_timeout = std::chrono::seconds(30);
  uint64_t replay = 0;      // bytes for the replay log; 0: none
  bool write_back = false;  // acknowledged when it is in the log
  Duration retry_time = std::chrono::seconds(300);
  Duration denied_wait{0};
  std::string spool;                   // directory for the spool; empty: none
  std::optional<uint64_t> spool_size;  // bytes; none: what the disk has
  bool spool_local = false;            // spool-flush=local
  SpoolLeftovers spool_leftovers = SpoolLeftovers::kFail;
  std::string metrics;  // file for what a monitoring system reads; empty: none

  // What each of several exports has of `replay` at least, in bytes: enough for a request.
  [[nodiscard]] uint64_t least_own_replay() const {
    return std::max(max_request, uint64_t{64} << 10);
  }
};

// Reads a secret given as VALUE, +FILE, -FD or - (nbdkit_read_password(3)).
using SecretReader = std::function<Result<std::string>(const std::string& value)>;

class ConfigParser {
 public:
  explicit ConfigParser(SecretReader read_secret);

  // One key=value; of a key that comes twice the last counts.
  Status set(const std::string& key, const std::string& value);

  // Call when all were given.
  Result<Config> complete() const;

  // The text of `nbdkit upload --help`: one paragraph for each key, each
  // beginning with "key=". Never freed.
  [[nodiscard]] static const char* help();

 private:
  struct Parameter;
  static const Parameter kParameters[];

  Status set_url(const std::string& value);
  Status set_size(const std::string& value);
  Status set_export(const std::string& value);
  Status set_exports(const std::string& value);
  Status set_start(const std::string& value);
  Status set_target(const std::string& value);
  Status set_create(const std::string& value);
  Status set_checksum(const std::string& value);
  Status set_cafile(const std::string& value);
  Status set_cert(const std::string& value);
  Status set_key(const std::string& value);
  Status set_insecure(const std::string& value);
  Status set_unix_socket(const std::string& value);
  Status set_is_ovirt_host(const std::string& value);
  Status set_direct(const std::string& value);
  Status set_connections(const std::string& value);
  Status set_max_request(const std::string& value);
  Status set_connect_timeout(const std::string& value);
  Status set_timeout(const std::string& value);
  Status set_idle_timeout(const std::string& value);
  Status set_replay(const std::string& value);
  Status set_write_back(const std::string& value);
  Status set_retry_time(const std::string& value);
  Status set_denied_wait(const std::string& value);
  Status set_spool(const std::string& value);
  Status set_spool_size(const std::string& value);
  Status set_spool_flush(const std::string& value);
  Status set_spool_leftovers(const std::string& value);
  Status set_claim(const std::string& value);
  Status set_claim_name(const std::string& value);
  Status set_claim_wait(const std::string& value);
  Status set_claim_steal(const std::string& value);
  Status set_claim_lease(const std::string& value);
  Status set_claim_directory(const std::string& value);
  Status set_claim_members(const std::string& value);
  Status set_user(const std::string& value);
  Status set_password(const std::string& value);
  Status set_token(const std::string& value);
  Status set_token_url(const std::string& value);
  Status set_client_id(const std::string& value);
  Status set_client_secret(const std::string& value);
  Status set_scope(const std::string& value);
  Status set_token_script(const std::string& value);
  Status set_reuse_session(const std::string& value);
  Status set_validate_session(const std::string& value);
  Status set_header(const std::string& value);
  Status set_metrics(const std::string& value);
  Status set_proxy(const std::string& value);
  Status add_export(const std::string& name);
  Status check_exports(const Config& config) const;
  Status check_claims(const Config& config) const;
  Status check_access(const Config& config) const;
  Status read_secret(const std::string& value, std::string& secret) const;

  const SecretReader read_secret_;
  Config config_;  // an export without a URL has none yet
  std::string exports_file_;
  bool spool_flush_given_ = false;
  bool reuse_session_given_ = false;
  std::string spool_leftovers_;  // as given; empty: not
  std::string claim_key_;        // the first of claim-... that was given, with its value
  bool claim_lease_given_ = false;
  bool url_given_ = false;  // before any export
  std::optional<std::string> unix_socket_;
  std::optional<bool> is_ovirt_host_;
};

}  // namespace upload
