// SPDX-License-Identifier: BSD-3-Clause
//
// The table of parameters: key, how it is read, and its help. The manual page
// and this table are kept in step by a test.
//
// Secrets (the URL, since the ticket is in it, passwords, tokens, headers)
// are registered for redaction here, where they come in.

#include "process/config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <cstdlib>
#include <cstring>
#include <map>

#include "base/format.h"
#include "base/parse.h"
#include "base/printable.h"
#include "base/redact.h"
#include "claim/record.h"
#include "login/token_request.h"
#include "process/export_list.h"
#include "target/target.h"

namespace upload {

struct ConfigParser::Parameter {
  const char* key;
  Status (ConfigParser::*set)(const std::string& value);
  // The value may be shown in errors.
  bool shown;
  const char* help;
};

const ConfigParser::Parameter ConfigParser::kParameters[] = {
    {"url", &ConfigParser::set_url, false,
     "<URL> (required; the key may be left out)\n"
     "    Where to upload to, such as https://HOST:54322/images/TICKET.\n"
     "    +FILE, -FD and - keep it out of the process list."},
    {"size", &ConfigParser::set_size, true,
     "<SIZE>\n"
     "    Size of the disk. If not given, the server is asked."},
    {"export", &ConfigParser::set_export, true,
     "<NAME>\n"
     "    Begins an export: url= and size= after it are its own. May be given\n"
     "    more than once; the first is the default export."},
    {"exports", &ConfigParser::set_exports, true,
     "<FILE>\n"
     "    Exports, in JSON: [{\"name\": \"sda\", \"url\": \"https://...\"}, ...]."},
    {"start", &ConfigParser::set_start, true,
     "all|any\n"
     "    Whether all exports must be reachable at the start, or one is enough\n"
     "    (default: all)."},
    {"target", &ConfigParser::set_target, true,
     "auto|imageio|azure|azure-disk|webdav\n"
     "    Protocol of the server; auto: ovirt-imageio, or an Azure page blob if\n"
     "    the host or the server says so (default: auto)."},
    {"create", &ConfigParser::set_create, true,
     "true|false\n"
     "    Create the disk if it is not there; needs size= (default: false)."},
    {"checksum", &ConfigParser::set_checksum, true,
     "true|false\n"
     "    Send a checksum with each write, which the server checks (default: false)."},
    {"cafile", &ConfigParser::set_cafile, true,
     "<FILE>\n"
     "    Trust the CA certificates in this file and no others."},
    {"cert", &ConfigParser::set_cert, true,
     "<FILE>\n"
     "    Client certificate."},
    {"key", &ConfigParser::set_key, true,
     "<FILE>\n"
     "    Private key of the client certificate."},
    {"insecure", &ConfigParser::set_insecure, true,
     "true|false\n"
     "    Do not check the server's certificate (default: false)."},
    {"unix-socket", &ConfigParser::set_unix_socket, true,
     "auto|none|<PATH>|@<NAME>\n"
     "    Unix socket to use instead of TCP and TLS; auto: the one that the\n"
     "    server tells of (default: none)."},
    {"is_ovirt_host", &ConfigParser::set_is_ovirt_host, true,
     "true|false\n"
     "    true is the same as unix-socket=auto (default: false)."},
    {"direct", &ConfigParser::set_direct, true,
     "auto|true|false\n"
     "    Whether no reverse proxy that reuses connections is in front of the\n"
     "    server; with one, every write is flushed; auto: ask (default: auto)."},
    {"connections", &ConfigParser::set_connections, true,
     "<N>\n"
     "    Use at most this many connections (default: 4)."},
    {"max-request", &ConfigParser::set_max_request, true,
     "<SIZE>\n"
     "    Combine adjacent writes up to this size (default: 4M)."},
    {"connect-timeout", &ConfigParser::set_connect_timeout, true,
     "<SECONDS>\n"
     "    Time to make a connection (default: 10)."},
    {"timeout", &ConfigParser::set_timeout, true,
     "<SECONDS>\n"
     "    Time that a request may make no progress (default: 60)."},
    {"idle-timeout", &ConfigParser::set_idle_timeout, true,
     "<SECONDS>\n"
     "    Keep alive connections that are idle for so long (default: 30)."},
    {"replay", &ConfigParser::set_replay, true,
     "<SIZE>\n"
     "    Memory for unflushed data, to be sent again when a connection is\n"
     "    lost (default: 0, which is off)."},
    {"write-back", &ConfigParser::set_write_back, true,
     "true|false\n"
     "    With replay: acknowledge a change once it is in that memory, and send\n"
     "    it afterwards (default: false)."},
    {"retry-time", &ConfigParser::set_retry_time, true,
     "<SECONDS>\n"
     "    With replay: how long to try again (default: 300)."},
    {"denied-wait", &ConfigParser::set_denied_wait, true,
     "<SECONDS>\n"
     "    With replay: how long a ticket that is denied after a connection was\n"
     "    lost is waited for, to be added again (default: 0)."},
    {"spool", &ConfigParser::set_spool, true,
     "<DIR>\n"
     "    Keep changes in this directory while the server does not answer;\n"
     "    needs replay=."},
    {"spool-size", &ConfigParser::set_spool_size, true,
     "<SIZE>\n"
     "    Keep at most so much there; if not given, what the disk has."},
    {"spool-flush", &ConfigParser::set_spool_flush, true,
     "remote|local\n"
     "    Whether a flush waits for the server, or for the spool's disk while\n"
     "    the server is away (default: remote)."},
    {"spool-leftovers", &ConfigParser::set_spool_leftovers, true,
     "send|discard|fail\n"
     "    What to do with changes that an earlier run has left there for the\n"
     "    same path under another host (default: fail). discard drops those\n"
     "    of the same URL, too."},
    {"claim", &ConfigParser::set_claim, true,
     "file:<DIR>|etcd:<URL>[,<URL>...]|lease\n"
     "    Upload only with the claim to the disk, which one process has at a time:\n"
     "    of this host, by a lock in this directory; or of any host, by etcd or by\n"
     "    the server's own lease (target=azure)."},
    {"claim-name", &ConfigParser::set_claim_name, true,
     "<NAME>\n"
     "    Name of the disk for claim=; if not given, its URL. Of the export, after\n"
     "    export=."},
    {"claim-wait", &ConfigParser::set_claim_wait, true,
     "<SECONDS>\n"
     "    How long to wait for another's claim to end (default: 0)."},
    {"claim-steal", &ConfigParser::set_claim_steal, true,
     "true|false\n"
     "    Also take a disk whose upload has failed, was never ended, or is\n"
     "    complete; never one that is being uploaded (default: false)."},
    {"claim-lease", &ConfigParser::set_claim_lease, true,
     "<SECONDS>\n"
     "    With claim=etcd or lease: how long the claim of a process that does not answer\n"
     "    stays (default: 30)."},
    {"user", &ConfigParser::set_user, true,
     "<NAME>\n"
     "    User name for Basic authentication, or for token-url=."},
    {"password", &ConfigParser::set_password, false,
     "<PASSWORD>|+<FILE>|-<FD>|-\n"
     "    Password for Basic authentication, or for token-url=."},
    {"token", &ConfigParser::set_token, false,
     "<TOKEN>|+<FILE>|-<FD>|-\n"
     "    Token for Bearer authentication."},
    {"token-url", &ConfigParser::set_token_url, true,
     "<URL>\n"
     "    Get tokens from this OAuth 2.0 token endpoint, as a client (client-id=,\n"
     "    client-secret=) or as a user (user=, password=)."},
    {"client-id", &ConfigParser::set_client_id, true,
     "<NAME>\n"
     "    Name of the client for token-url=."},
    {"client-secret", &ConfigParser::set_client_secret, false,
     "<SECRET>|+<FILE>|-<FD>|-\n"
     "    Secret of the client for token-url=."},
    {"scope", &ConfigParser::set_scope, true,
     "<SCOPE>\n"
     "    Scope to ask for at token-url=."},
    {"token-script", &ConfigParser::set_token_script, false,
     "<COMMAND>\n"
     "    Get tokens from this shell command. It prints a token and, on a second\n"
     "    line, may print its life time in seconds."},
    {"reuse-session", &ConfigParser::set_reuse_session, true,
     "true|false\n"
     "    Share one login; false: each connection logs in by itself\n"
     "    (default: true)."},
    {"validate-session", &ConfigParser::set_validate_session, true,
     "true|false\n"
     "    Ask the server whether the credentials are good when a client\n"
     "    connects (default: false)."},
    {"header", &ConfigParser::set_header, false,
     "<NAME: VALUE>|+<FILE>|-<FD>|-\n"
     "    Header field for every request. May be given more than once."},
    {"proxy", &ConfigParser::set_proxy, false,
     "<URL>|+<FILE>|-<FD>|-\n"
     "    HTTP proxy (default: from the environment)."},
    {"metrics", &ConfigParser::set_metrics, true,
     "<FILE>\n"
     "    Write what Prometheus reads of the upload into this file, every ten\n"
     "    seconds and at the end."},
};

namespace {

// Of a value in the URL's query, in bytes; shorter ones are names of modes and the like.
constexpr size_t kShortestQuerySecret = 4;
// Of a URL or a header field, in bytes. No server takes as much.
constexpr size_t kLongestSecret = size_t{64} << 10;

Status bad(const std::string& why) { return {Kind::kInvalid, why}; }

// Seconds, with a fraction if need be.
Status parse_seconds(const std::string& value, Duration& duration) {
  constexpr double kShortest = 0.001;
  constexpr double kLongest = 86400;
  double seconds = 0;
  const char* const end = value.data() + value.size();
  const auto [stop, error] =
      std::from_chars(value.data(), end, seconds, std::chars_format::fixed);
  if (error != std::errc() || stop != end || !(seconds >= kShortest && seconds <= kLongest))
    return bad("must be a number of seconds from 0.001 to 86400");
  duration = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  return {};
}

// The content of a file.
Status read_file(const std::string& name, std::string& content) {
  constexpr size_t kMost = size_t{16} << 20;
  if (name.empty()) return bad("must be the name of a file");
  struct stat about = {};
  if (stat(name.c_str(), &about) == 0 && S_ISDIR(about.st_mode))
    return bad("must be a file, not a directory");
  const int fd = open(name.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return bad(std::string("cannot be read: ") + strerror(errno));
  content.clear();
  char buffer[65536];
  ssize_t n = 0;
  while ((n = read(fd, buffer, sizeof buffer)) > 0 && content.size() < kMost)
    content.append(buffer, static_cast<size_t>(n));
  const int error = errno;
  close(fd);
  if (n < 0) return bad(std::string("cannot be read: ") + strerror(error));
  if (content.empty()) return bad("is empty");
  if (content.size() >= kMost) return bad("is too large");
  return {};
}

// user:password@ in the URL of a proxy, or of a member of etcd, which is refused then.
void register_proxy_secret(const std::string& proxy) {
  const size_t at = proxy.rfind('@');
  if (at == proxy.npos) return;
  const size_t scheme = proxy.find("://");
  const size_t start = scheme == proxy.npos ? 0 : scheme + 3;
  if (start >= at) return;
  const std::string userinfo = proxy.substr(start, at - start);
  const size_t colon = userinfo.find(':');
  // What is sent has a colon, and is encoded when percents are not any more.
  register_credential(colon == userinfo.npos ? userinfo + ":" : userinfo);
  register_credential(colon == userinfo.npos ? userinfo : userinfo.substr(colon + 1));
}

Status parse_flag(const std::string& value, bool& flag) {
  const std::optional<bool> parsed = parse_bool(value);
  if (!parsed) return bad("must be true or false");
  flag = *parsed;
  return {};
}

bool has_control_characters(const std::string& text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return c < ' ' || c == 0x7f; });
}

}  // namespace

ConfigParser::ConfigParser(SecretReader read_secret) : read_secret_(std::move(read_secret)) {}

Status ConfigParser::set(const std::string& key, const std::string& value) {
  for (const Parameter& parameter : kParameters) {
    if (key != parameter.key) continue;
    const Status status = (this->*parameter.set)(value);
    if (status.ok()) return status;
    // The name of a file may be shown, a password that looks like one may not.
    const bool file = value.size() > 1 && value[0] == '+' && value.find('/') != value.npos;
    const std::string shown = parameter.shown || file || value.empty() ? printable(value) : "...";
    return bad(key + "=" + shown + ": " + status.text());
  }
  // The value is not shown: the key may be a password's, misspelt.
  return bad("unknown parameter '" + printable(key) +
             "'; 'nbdkit upload --help' lists those there are");
}

// --- One function for each key --------------------------------------------

Status ConfigParser::read_secret(const std::string& value, std::string& secret) const {
  // nbdkit would name the file or the descriptor, but not the key.
  if (value.size() > 1 && value[0] == '+') {
    struct stat about = {};
    if (stat(value.c_str() + 1, &about) != 0 || access(value.c_str() + 1, R_OK) != 0)
      return bad(std::string("cannot be read: ") + strerror(errno));
    if (S_ISDIR(about.st_mode)) return bad("must be a file, not a directory");
  }
  if (value.size() > 1 && value[0] == '-') {
    const std::optional<uint64_t> fd = parse_number(value.substr(1));
    if (!fd || *fd <= STDERR_FILENO || *fd > INT32_MAX ||
        fcntl(static_cast<int>(*fd), F_GETFD) < 0)
      return bad("must be -FD with the number of an open file descriptor, from 3");
  }
  Result<std::string> read = read_secret_(value);
  if (!read.ok()) return read.status();
  if (read.value().size() > kLongestSecret)
    return bad(format("must not be longer than %zu bytes", kLongestSecret));
  secret = std::move(read.value());
  return {};
}

Status ConfigParser::set_url(const std::string& value) {
  std::string text;
  if (Status status = read_secret(value, text); !status.ok()) return status;
  Result<http::Url> url = http::parse_url(text);
  if (!url.ok()) return bad("the URL " + url.status().text());
  const http::Url parsed = std::move(url.value());
  if (config_.exports.empty()) {
    config_.origin.url = parsed;
    url_given_ = true;
  } else {
    config_.exports.back().url = parsed;
  }
  const std::string ticket = parsed.path.substr(parsed.path.rfind('/') + 1);
  register_secret(ticket);
  register_secret(ticket.substr(0, 18));  // so much of it is in imageio's texts
  register_parts(parsed.path);
  register_secret(parsed.query);
  for (size_t at = 0; at < parsed.query.size();) {
    const size_t end = std::min(parsed.query.find('&', at), parsed.query.size());
    const std::string pair = parsed.query.substr(at, end - at);
    const std::string field = pair.substr(pair.find('=') + 1);
    // "rw" is no secret.
    if (field.size() >= kShortestQuerySecret) register_secret(field);
    at = end + 1;
  }
  return {};
}

Status ConfigParser::set_size(const std::string& value) {
  const std::optional<uint64_t> size = parse_size(value);
  if (!size || *size == 0) return bad("must be a size in bytes, more than 0, such as 10G");
  (config_.exports.empty() ? config_.size : config_.exports.back().size) = *size;
  return {};
}

Status ConfigParser::set_export(const std::string& value) {
  if (!exports_file_.empty()) return bad("can not be given beside exports=" + exports_file_);
  return add_export(value);
}

Status ConfigParser::add_export(const std::string& name) {
  // NBD's limit for a string (NBD protocol, "Values").
  constexpr size_t kLongestName = 4096;
  if (name.empty() || name.size() > kLongestName || has_control_characters(name))
    return bad("must be a name without control characters, of at most 4096 bytes");
  for (const Config::Export& other : config_.exports)
    if (other.name == name) return bad("there is an export of that name already");
  config_.exports.push_back({name, {}, {}, {}});
  return {};
}

Status ConfigParser::set_exports(const std::string& value) {
  if (!config_.exports.empty())
    return bad("can not be given beside export=" + printable(config_.exports.front().name));
  std::string text;
  if (Status status = read_file(value, text); !status.ok()) return status;
  Result<std::vector<ListedExport>> list = read_export_list(text);
  if (!list.ok()) return list.status();
  for (const ListedExport& one : list.value()) {
    const auto refused = [&](const char* key, const Status& status) {
      return bad(format("line %zu: \"%s\": ", one.line_of(key), key) + status.text());
    };
    if (Status status = add_export(one.name); !status.ok()) return refused("name", status);
    if (Status status = set_url(one.url); !status.ok()) return refused("url", status);
    if (!one.claim.empty())
      if (Status status = set_claim_name(one.claim); !status.ok())
        return refused("claim", status);
    if (one.size.empty()) continue;
    if (Status status = set_size(one.size); !status.ok()) return refused("size", status);
  }
  exports_file_ = value;
  return {};
}

Status ConfigParser::set_start(const std::string& value) {
  if (value != "all" && value != "any") return bad("must be all or any");
  config_.start_any = value == "any";
  return {};
}

Status ConfigParser::set_target(const std::string& value) {
  if (value != "auto" && !target::is_target(value))
    return bad("must be auto or one of: " + target::target_names());
  config_.target = value;
  return {};
}

Status ConfigParser::set_create(const std::string& value) {
  return parse_flag(value, config_.create);
}

Status ConfigParser::set_checksum(const std::string& value) {
  return parse_flag(value, config_.checksum);
}

Status ConfigParser::set_cafile(const std::string& value) {
  return read_file(value, config_.origin.ca_pem);
}

Status ConfigParser::set_cert(const std::string& value) {
  return read_file(value, config_.origin.cert_pem);
}

Status ConfigParser::set_key(const std::string& value) {
  return read_file(value, config_.origin.key_pem);
}

Status ConfigParser::set_insecure(const std::string& value) {
  return parse_flag(value, config_.origin.insecure);
}

Status ConfigParser::set_unix_socket(const std::string& value) {
  if (value == "auto" || value == "none") {
    unix_socket_ = value;
    return {};
  }
  if (value.empty() || (value[0] != '/' && value[0] != '@') || value == "@")
    return bad("must be auto, none, an absolute path or @NAME");
  // One byte is for the NUL at the end or, of an abstract name, the start.
  if (value.size() > sizeof(sockaddr_un::sun_path) - 1)
    return bad("is longer than the " + std::to_string(sizeof(sockaddr_un::sun_path) - 1) +
               " bytes that a unix socket's name may have");
  unix_socket_ = value;
  return {};
}

Status ConfigParser::set_is_ovirt_host(const std::string& value) {
  bool flag = false;
  if (Status status = parse_flag(value, flag); !status.ok()) return status;
  is_ovirt_host_ = flag;
  return {};
}

Status ConfigParser::set_direct(const std::string& value) {
  config_.direct.reset();
  if (value == "auto") return {};
  config_.direct = parse_bool(value);
  return config_.direct ? Status() : bad("must be auto, true or false");
}

Status ConfigParser::set_connections(const std::string& value) {
  constexpr uint64_t kMost = 64;
  const std::optional<uint64_t> number = parse_number(value);
  if (!number || *number < 1 || *number > kMost)
    return bad("must be a number from 1 to " + std::to_string(kMost));
  config_.connections = static_cast<unsigned>(*number);
  return {};
}

Status ConfigParser::set_max_request(const std::string& value) {
  const std::optional<uint64_t> size = parse_size(value);
  if (!size || *size < (4U << 10) || *size > (1U << 30))
    return bad("must be a size from 4K to 1G");
  config_.max_request = *size;
  return {};
}

Status ConfigParser::set_connect_timeout(const std::string& value) {
  return parse_seconds(value, config_.origin.connect_timeout);
}

Status ConfigParser::set_timeout(const std::string& value) {
  config_.timeout_given = true;
  return parse_seconds(value, config_.origin.timeout);
}

Status ConfigParser::set_idle_timeout(const std::string& value) {
  return parse_seconds(value, config_.idle_timeout);
}

Status ConfigParser::set_replay(const std::string& value) {
  const std::optional<uint64_t> size = parse_size(value);
  if (!size || (*size != 0 && (*size < (1U << 20) || *size > (uint64_t{1} << 40))))
    return bad("must be 0 or a size from 1M to 1T");
  config_.replay = *size;
  return {};
}

Status ConfigParser::set_write_back(const std::string& value) {
  return parse_flag(value, config_.write_back);
}

Status ConfigParser::set_retry_time(const std::string& value) {
  return parse_seconds(value, config_.retry_time);
}

Status ConfigParser::set_denied_wait(const std::string& value) {
  if (value != "0") return parse_seconds(value, config_.denied_wait);
  config_.denied_wait = Duration::zero();
  return {};
}

Status ConfigParser::set_spool(const std::string& value) {
  if (value.empty() || value[0] != '/')
    return bad(
        "must be an absolute path: nbdkit changes its directory when it goes to the "
        "background");
  struct stat about = {};
  if (stat(value.c_str(), &about) != 0)
    return bad(std::string("can't be used: ") + strerror(errno));
  if (!S_ISDIR(about.st_mode)) return bad("must be a directory");
  if (access(value.c_str(), R_OK | W_OK | X_OK) != 0)
    return bad(std::string("files can't be made there: ") + strerror(errno));
  config_.spool = value;
  return {};
}

Status ConfigParser::set_spool_size(const std::string& value) {
  const std::optional<uint64_t> size = parse_size(value);
  if (!size || *size == 0 || *size > (uint64_t{1} << 50))
    return bad("must be a size in bytes, more than 0, such as 10G");
  config_.spool_size = *size;
  return {};
}

Status ConfigParser::set_spool_flush(const std::string& value) {
  if (value != "remote" && value != "local") return bad("must be remote or local");
  config_.spool_local = value == "local";
  spool_flush_given_ = true;
  return {};
}

Status ConfigParser::set_spool_leftovers(const std::string& value) {
  if (value == "fail")
    config_.spool_leftovers = SpoolLeftovers::kFail;
  else if (value == "send")
    config_.spool_leftovers = SpoolLeftovers::kSend;
  else if (value == "discard")
    config_.spool_leftovers = SpoolLeftovers::kDiscard;
  else
    return bad("must be send, discard or fail");
  spool_leftovers_ = value;
  return {};
}

Status ConfigParser::set_claim(const std::string& value) {
  config_.claim.directory.clear();
  config_.claim.members.clear();
  const size_t colon = value.find(':');
  const std::string way = value.substr(0, colon);
  const std::string where = colon == value.npos ? "" : value.substr(colon + 1);
  config_.claim.native = value == "lease";
  if (config_.claim.native) return {};

  if (way == "file") return set_claim_directory(where);
  if (way == "etcd") return set_claim_members(where);
  return bad("must be file:DIR, etcd:URL[,URL...] or lease");
}

Status ConfigParser::set_claim_directory(const std::string& value) {
  if (value.empty() || value[0] != '/')
    return bad(
        "must be file: and an absolute path: nbdkit changes its directory when it goes to the "
        "background");
  struct stat about = {};
  if (stat(value.c_str(), &about) != 0)
    return bad(std::string("can't be used: ") + strerror(errno));
  if (!S_ISDIR(about.st_mode)) return bad("must be a directory");
  if (access(value.c_str(), W_OK | X_OK) != 0)
    return bad(std::string("files can't be made there: ") + strerror(errno));
  config_.claim.directory = value;
  return {};
}

Status ConfigParser::set_claim_members(const std::string& value) {
  constexpr size_t kMost = 16;
  for (size_t at = 0; at <= value.size();) {
    const size_t end = std::min(value.find(',', at), value.size());
    std::string text = value.substr(at, end - at);
    register_proxy_secret(text);
    if (text.ends_with('/')) text.pop_back();
    // parse_url() wants a path, and there must be none.
    Result<http::Url> url = http::parse_url(text + "/v3");
    if (!url.ok() || url.value().path != "/v3" || !url.value().query.empty())
      return bad(
          "must be etcd: and the URLs of the cluster's members, such as https://host:2379");
    config_.claim.members.push_back(std::move(url.value()));
    at = end + 1;
  }
  if (config_.claim.members.size() > kMost)
    return bad(format("must not name more than %zu members", kMost));
  return {};
}

Status ConfigParser::set_claim_name(const std::string& value) {
  constexpr size_t kLongestName = 4096;
  if (value.empty() || value.size() > kLongestName || has_control_characters(value))
    return bad("must be a name without control characters, of at most 4096 bytes");
  (config_.exports.empty() ? config_.claim_name : config_.exports.back().claim_name) = value;
  claim_key_ = "claim-name=" + printable(value);
  return {};
}

Status ConfigParser::set_claim_wait(const std::string& value) {
  claim_key_ = "claim-wait=" + value;
  config_.claim.wait = Duration::zero();
  return value == "0" ? Status() : parse_seconds(value, config_.claim.wait);
}

Status ConfigParser::set_claim_steal(const std::string& value) {
  claim_key_ = "claim-steal=" + value;
  return parse_flag(value, config_.claim.steal);
}

Status ConfigParser::set_claim_lease(const std::string& value) {
  constexpr uint64_t kShortest = 10;
  constexpr uint64_t kLongest = 3600;
  const std::optional<uint64_t> time = parse_number(value);
  if (!time || *time < kShortest || *time > kLongest)
    return bad("must be a whole number of seconds from 10 to 3600");
  config_.claim.lease = std::chrono::seconds(*time);
  claim_key_ = "claim-lease=" + value;
  claim_lease_given_ = true;
  return {};
}

Status ConfigParser::set_user(const std::string& value) {
  if (value.empty() || value.find(':') != value.npos || has_control_characters(value))
    return bad("must be a name without a colon");
  config_.access.user = value;
  return {};
}

Status ConfigParser::set_password(const std::string& value) {
  std::string& password = config_.access.password;
  if (Status status = read_secret(value, password); !status.ok()) return status;
  if (password.empty() || has_control_characters(password))
    return bad("must not be empty or have control characters in it");
  register_credential(password);
  return {};
}

Status ConfigParser::set_token(const std::string& value) {
  std::string& token = config_.access.token;
  if (Status status = read_secret(value, token); !status.ok()) return status;
  if (token.empty() || token.find(' ') != token.npos || has_control_characters(token))
    return bad("must not be empty or have blanks or control characters in it");
  register_credential(token);
  return {};
}

Status ConfigParser::set_token_url(const std::string& value) {
  Result<http::Url> url = http::parse_url(value);
  // RFC 6749, section 3.2, wants TLS.
  if (!url.ok() || url.value().scheme != "https")
    return bad("must be a URL with a host and a path that begins with https:");
  config_.access.token_url = std::move(url.value());
  return {};
}

Status ConfigParser::set_client_id(const std::string& value) {
  if (value.empty() || has_control_characters(value)) return bad("must be a name");
  config_.access.client_id = value;
  return {};
}

Status ConfigParser::set_client_secret(const std::string& value) {
  std::string& secret = config_.access.client_secret;
  if (Status status = read_secret(value, secret); !status.ok()) return status;
  if (secret.empty() || has_control_characters(secret))
    return bad("must not be empty or have control characters in it");
  register_credential(secret);
  return {};
}

Status ConfigParser::set_scope(const std::string& value) {
  if (value.empty() || has_control_characters(value))
    return bad("must be words with blanks between them");
  config_.access.scope = value;
  return {};
}

Status ConfigParser::set_token_script(const std::string& value) {
  if (value.find_first_not_of(" \t\n") == value.npos) return bad("must be a shell command");
  config_.access.token_script = value;
  return {};
}

Status ConfigParser::set_reuse_session(const std::string& value) {
  reuse_session_given_ = true;
  return parse_flag(value, config_.access.reuse_session);
}

Status ConfigParser::set_validate_session(const std::string& value) {
  return parse_flag(value, config_.access.validate_session);
}

Status ConfigParser::set_header(const std::string& value) {
  std::string line;
  if (Status status = read_secret(value, line); !status.ok()) return status;
  const size_t colon = line.find(':');
  if (colon == line.npos || colon == 0 || has_control_characters(line))
    return bad("must be of the form NAME: VALUE");
  // The grammar of a field's name: RFC 9110, section 5.1.
  std::string name = line.substr(0, colon);
  if (!std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 || strchr("!#$%&'*+-.^_`|~", c) != nullptr;
      }))
    return bad("must be of the form NAME: VALUE");
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  for (const char* own :
       {"connection", "content-length", "content-range", "content-type", "expect", "host",
        "range", "te", "trailer", "transfer-encoding", "upgrade", "accept-encoding", "if-match",
        "if-none-match", "if-range", "if-modified-since", "if-unmodified-since"})
    if (name == own) return bad("must not be the " + name + " field");
  const size_t start = line.find_first_not_of(' ', colon + 1);
  if (start == line.npos) return bad("has no value after the colon");
  register_secret(line.substr(start));
  register_parts(line.substr(start));
  const std::string last = line.substr(line.rfind(' ') + 1);  // what follows "Bearer"
  if (name == "authorization") {
    register_credential(last);
    const std::string pair = from_base64(last);  // NAME:PASSWORD, RFC 7617
    if (pair.find(':') != pair.npos) register_secret(pair.substr(pair.find(':') + 1));
  }
  register_secret(last);
  config_.origin.headers.push_back(line);
  return {};
}

Status ConfigParser::set_proxy(const std::string& value) {
  std::string proxy;
  if (Status status = read_secret(value, proxy); !status.ok()) return status;
  // Its form is checked by libcurl, at the first connection.
  if (proxy.empty() || has_control_characters(proxy) || proxy.find(' ') != proxy.npos)
    return bad("must be the URL of a proxy");
  register_proxy_secret(proxy);
  config_.origin.proxy = proxy;
  return {};
}

// Whether it can be written is tried later, as that leaves traces.
Status ConfigParser::set_metrics(const std::string& value) {
  if (value.empty() || value[0] != '/')
    return bad(
        "must be an absolute path: nbdkit changes its directory when it goes to the "
        "background");
  if (value.back() == '/') return bad("must be a file, not a directory");
  config_.metrics = value;
  return {};
}

// --- All together ---------------------------------------------------------

Result<Config> ConfigParser::complete() const {
  for (const char* name : {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"})
    if (const char* const proxy = getenv(name)) register_proxy_secret(proxy);
  Config config = config_;
  http::Origin& origin = config.origin;
  if (config.replay != 0 && config.replay < config.max_request)
    return bad(format("replay=%" PRIu64 " is too small for one request, max-request=%" PRIu64,
                      config.replay, config.max_request));
  const uint64_t needed = config.exports.size() * config.least_own_replay();
  if (config.replay != 0 && config.replay < needed)
    return bad(format("replay=%" PRIu64 " is too small for %zu exports with max-request=%" PRIu64
                      ", which need %" PRIu64,
                      config.replay, config.exports.size(), config.max_request, needed));
  if (config.write_back && config.replay == 0) return bad("write-back=true needs replay=SIZE");
  if (config.denied_wait > Duration::zero() && config.replay == 0)
    return bad(format("denied-wait=%g needs replay=SIZE",
                      std::chrono::duration<double>(config.denied_wait).count()));
  if (config.denied_wait > config.retry_time)
    return bad(format("denied-wait=%g is more than retry-time=%g",
                      std::chrono::duration<double>(config.denied_wait).count(),
                      std::chrono::duration<double>(config.retry_time).count()));
  if (!config.spool.empty() && config.replay == 0)
    return bad("spool=" + config.spool + " needs replay=SIZE");
  if (config.spool.empty() && config.spool_size)
    return bad(format("spool-size=%" PRIu64 " needs spool=DIR", *config.spool_size));
  if (config.spool.empty() && spool_flush_given_)
    return bad(std::string("spool-flush=") + (config.spool_local ? "local" : "remote") +
               " needs spool=DIR");
  if (config.spool.empty() && !spool_leftovers_.empty())
    return bad("spool-leftovers=" + spool_leftovers_ + " needs spool=DIR");
  if (config.spool_size && *config.spool_size < config.replay)
    return bad(format("spool-size=%" PRIu64
                      " is too small for what is in memory, replay=%" PRIu64,
                      *config.spool_size, config.replay));
  if (config.target != "auto")
    if (Status status = target::check_options(config.target, {config.create, config.checksum});
        !status.ok())
      return status;
  if (Status status = check_exports(config); !status.ok()) return status;
  if (Status status = check_claims(config); !status.ok()) return status;
  if (Status status = check_access(config); !status.ok()) return status;
  if (origin.cert_pem.empty() != origin.key_pem.empty())
    return bad(origin.cert_pem.empty() ? "key= needs cert=" : "cert= needs key=");
  const std::string socket =
      unix_socket_.value_or(is_ovirt_host_.value_or(false) ? "auto" : "none");
  if (is_ovirt_host_.value_or(false) && socket != "auto")
    return bad("is_ovirt_host=true and unix-socket=" + socket + " exclude each other");
  config.auto_socket = socket == "auto";
  if (socket != "auto" && socket != "none") origin.unix_socket = socket;
  if (!origin.unix_socket.empty() && !origin.proxy.empty())
    return bad("unix-socket=" + socket + " and proxy= exclude each other");
  return config;
}

Status ConfigParser::check_claims(const Config& config) const {
  const Config::Claim& claim = config.claim;
  if (!claim.wanted()) return claim_key_.empty() ? Status() : bad(claim_key_ + " needs claim=");
  if (!claim.directory.empty() && claim_lease_given_)
    return bad(format("claim-lease=%lld needs claim=etcd:URL or lease", seconds(claim.lease)));
  const bool named =
      std::any_of(config.exports.begin(), config.exports.end(),
                  [](const Config::Export& one) { return !one.claim_name.empty(); });
  if (claim.native && (named || !config.claim_name.empty()))
    return bad("claim-name= is of no use with claim=lease, which is the disk's own");
  if (!config.exports.empty() && !config.claim_name.empty())
    return bad("a claim-name= before export=" + printable(config.exports.front().name) +
               " belongs to no export");
  std::map<std::string, std::string> names;  // by hash
  for (const Config::Export& one : config.exports) {
    const auto [other, is_new] =
        names.emplace(claim::hash_of(one.claim_name, one.url), printable(one.name));
    if (!is_new)
      return bad("export=" + other->second + " and export=" + printable(one.name) +
                 " have the same claim");
  }
  return {};
}

Status ConfigParser::check_access(const Config& config) const {
  const Config::Access& access = config.access;
  if (!access.password.empty() && access.user.empty()) return bad("password= needs user=");
  if (!access.user.empty() && access.password.empty())
    return bad("user=" + access.user + " needs password=");
  if (!access.user.empty() && !access.token_url && target::signs_requests(config.target) &&
      from_base64(access.password).empty())
    return bad("password=...: must be the key of the account, in Base64, with target=" +
               config.target);
  // Only what is said of a login that there is not.
  const char* const needs = "token-url=";
  if (!access.token_url) {
    if (!access.client_id.empty())
      return bad("client-id=" + access.client_id + " needs " + needs);
    if (!access.client_secret.empty()) return bad(std::string("client-secret= needs ") + needs);
    if (!access.scope.empty()) return bad("scope=" + access.scope + " needs " + needs);
  } else {
    if (!access.client_secret.empty() && access.client_id.empty())
      return bad("client-secret= needs client-id=");
    if (access.user.empty() && access.client_id.empty())
      return bad("token-url= needs client-id= and client-secret=, or user= and password=");
    if (access.user.empty() && access.client_secret.empty())
      return bad("client-id=" + access.client_id + " needs client-secret=, or user=");
  }
  if (!access.has_login() && reuse_session_given_)
    return bad(std::string("reuse-session=") + (access.reuse_session ? "true" : "false") +
               " needs token-url= or token-script=");
  // At most one way.
  std::vector<std::string> ways;
  if (access.token_url)
    ways.emplace_back("token-url=");
  else if (!access.user.empty())
    ways.emplace_back("user=" + access.user);
  if (!access.token.empty()) ways.emplace_back("token=");
  if (!access.token_script.empty()) ways.emplace_back("token-script=");
  for (const std::string& header : config.origin.headers)
    if (strncasecmp(header.c_str(), "authorization:", 14) == 0)
      ways.emplace_back("header=Authorization");
  if (ways.size() > 1) return bad(ways[0] + " and " + ways[1] + " exclude each other");
  if (!access.user.empty()) register_secret(access.user + ":" + access.password);
  if (!access.client_id.empty())
    register_secret(login::basic_credentials(access.client_id, access.client_secret));
  return {};
}

Status ConfigParser::check_exports(const Config& config) const {
  const auto check = [&](const http::Url& url, const std::string& name) -> Status {
    if (url.host.empty()) return bad(name + "url= is required: where to upload to");
    if (url.scheme == "http" && !config.origin.cert_pem.empty())
      return bad("cert= needs a " + name + "url= that begins with https:");
    return {};
  };
  if (config.exports.empty()) return check(config.origin.url, "");
  const std::string& first = config.exports.front().name;
  if (url_given_)
    return bad("a url= before export=" + printable(first) + " belongs to no export");
  if (config.size)
    return bad("a size= before export=" + printable(first) + " belongs to no export");
  std::map<std::string, std::string> names;  // by URL
  for (const Config::Export& one : config.exports) {
    const std::string name = "export=" + printable(one.name) + " ";
    if (Status status = check(one.url, name); !status.ok()) return status;
    // The two would not know of each other's changes.
    const auto [other, is_new] =
        names.emplace(one.url.origin() + one.url.target(), printable(one.name));
    if (!is_new) return bad("export=" + other->second + " and " + name + "have the same url=");
  }
  return {};
}

const char* ConfigParser::help() {
  static const std::string* const text = [] {
    auto* lines = new std::string;
    for (const Parameter& parameter : kParameters)
      *lines += (lines->empty() ? "" : "\n") + std::string(parameter.key) + "=" + parameter.help;
    return lines;
  }();
  return text->c_str();
}

}  // namespace upload
