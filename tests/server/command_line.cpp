// SPDX-License-Identifier: BSD-3-Clause
//
// Parsing of upload-server's arguments.
//
// Options are getopt_long's. The values of --ticket and --fault are lists of key=value
// separated by commas, so neither a path nor a fault's body can contain a comma. Every
// problem is collected before anything is refused, so that a script's author sees all of
// them at once.
//
// Threads: getopt has global state, so call it once, from main. Errors: lines of text.
// Whether files exist and sizes fit is found out by those who use them.

#include "command_line.h"

#include <getopt.h>

#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

namespace upload::testserver {

namespace {

constexpr std::string_view kHelp =
    R"(upload-server: a server that disks are uploaded to, for tests

usage: upload-server [OPTION...] --ticket ID=BACKEND[,KEY=VALUE...] ...

  --listen ADDR:PORT    numeric address; default 127.0.0.1:0 (any free port)
  --protocol NAME       imageio (default): tickets are /images/ID
                        azure: page blobs, /ACCOUNT/CONTAINER/ID
                        webdav: files, /dav/ID
  --content-range NAME  webdav: what a PUT with it does: applied (default), ignored, refused (501)
  --max-requests N      the N-th reply of a connection says that it closes
  --azure KEY=VALUE,... keys: account=NAME container=NAME key=BASE64 (requests signed with it are
                        taken) pages-per-list=N managed (disks: no lease, no Content-MD5)
  --azure-sas QUERY     requests with it are taken: sp=rw&se=2030-01-01T00:00:00Z&...&sig=...
  --plain               HTTP instead of HTTPS
  --cert-dir DIR        use ca.pem, cert.pem and key.pem of DIR; generated if missing
  --client-ca FILE      clients need a certificate signed by this CA
  --unix PATH|@NAME     also listen on a unix socket, and tell so in OPTIONS
  --port-file FILE      write the port number there when clients can connect
  --delay-ms N          wait so long before each request is done
  --idle-ms N           close connections that are idle for so long; 0: never
  --late-apply-ms N     apply changes that met close_after_body so much later
  --authorization VALUE refuse requests without exactly this Authorization header
  --tokens FILE         refuse requests without a bearer token of FILE: lines "TOKEN EXPIRES",
                        the latter in seconds since 1970
  --token-status N      with that status; default 401
  --ticket ...          offer an image
        file:PATH         a file or block device
        nbd:unix:PATH     an NBD server; also nbd://... and the like
        memory:SIZE       memory, loses unflushed changes with their connection
        discard:SIZE      accepts everything, stores nothing
      keys: size=SIZE readers=N writers=N idle-ms=N readonly
  --fault KEY=VALUE,... misbehave
      keys: op=any|connect|options|get|put|zero|flush|extents|other|head|create|remove|lease|
            metadata|checksum|algorithms nth=N times=N action=NAME status=N delay=MS
            body=TEXT ticket=ID retry-after=SECONDS early
  --save-stable DIR     write the stable content of memory tickets to DIR/ID at exit
  --stats               print the counters as JSON to stderr at exit
  --help

SIZE takes K, M, G or T. SIGUSR1 prints the counters, SIGTERM and SIGINT end it.
)";

std::pair<std::string_view, std::string_view> split(std::string_view text, char at) {
  const auto found = text.find(at);
  if (found == std::string_view::npos) {
    return {text, {}};
  }
  return {text.substr(0, found), text.substr(found + 1)};
}

template <class Number>
bool parse_number(std::string_view text, Number& number) {
  const char* const end = text.data() + text.size();
  const auto [stop, ec] = std::from_chars(text.data(), end, number);
  return ec == std::errc() && stop == end;
}

bool parse_ms(std::string_view text, std::chrono::milliseconds& value) {
  std::uint32_t number = 0;
  if (!parse_number(text, number)) {
    return false;
  }
  value = std::chrono::milliseconds(number);
  return true;
}

bool parse_size(std::string_view text, std::uint64_t& size) {
  constexpr std::string_view kSuffixes = "KMGT";
  unsigned shift = 0;
  if (!text.empty()) {
    const auto suffix = kSuffixes.find(text.back());
    if (suffix != std::string_view::npos) {
      shift = 10 * (static_cast<unsigned>(suffix) + 1);
      text.remove_suffix(1);
    }
  }
  constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
  if (!parse_number(text, size) || size > kMax >> shift) {
    return false;
  }
  size <<= shift;
  return true;
}

bool parse_backend(std::string_view text, TicketOptions& ticket) {
  const auto [kind, rest] = split(text, ':');
  ticket.location = rest;
  if (kind == "file") {
    ticket.backend = BackendKind::file;
    return !rest.empty();
  }
  if (kind == "memory" || kind == "discard") {
    ticket.backend = kind == "memory" ? BackendKind::memory : BackendKind::discard;
    ticket.location.clear();
    return parse_size(rest, ticket.size_bytes) && ticket.size_bytes > 0;
  }
  ticket.backend = BackendKind::nbd;
  ticket.location = text;
  return kind.starts_with("nbd") && !rest.empty();
}

bool parse_ticket_key(std::string_view key, std::string_view value, TicketOptions& ticket) {
  if (key == "size") {
    return parse_size(value, ticket.size_bytes);
  }
  if (key == "readers") {
    return parse_number(value, ticket.max_readers);
  }
  if (key == "writers") {
    return parse_number(value, ticket.max_writers);
  }
  if (key == "idle-ms") {
    return parse_ms(value, ticket.inactivity_timeout);
  }
  if (key == "readonly") {
    ticket.writable = false;
    return value.empty();
  }
  return false;
}

void parse_ticket(std::string_view text, CommandLine& line, Problems& problems) {
  TicketOptions ticket;
  const auto [head, keys] = split(text, ',');
  const auto [id, backend] = split(head, '=');
  ticket.id = id;
  if (id.empty() || !parse_backend(backend, ticket)) {
    problems.push_back("--ticket " + std::string(text) +
                       ": expected ID=file:PATH, nbd:..., memory:SIZE or discard:SIZE");
  }
  for (std::string_view rest = keys; !rest.empty();) {
    const auto [pair, tail] = split(rest, ',');
    const auto [key, value] = split(pair, '=');
    if (!parse_ticket_key(key, value, ticket)) {
      problems.push_back("--ticket " + std::string(id) +
                         ": bad key or value: " + std::string(pair));
    }
    rest = tail;
  }
  line.tickets.push_back(std::move(ticket));
}

template <class T>
bool assign(const std::optional<T>& parsed, T& target) {
  if (parsed) {
    target = *parsed;
  }
  return parsed.has_value();
}

bool parse_fault_key(std::string_view key, std::string_view value, Fault& fault) {
  if (key == "op") {
    return assign(parse_op(value), fault.op);
  }
  if (key == "action") {
    return assign(parse_action(value), fault.action);
  }
  if (key == "nth") {
    return parse_number(value, fault.nth) && fault.nth > 0;
  }
  if (key == "times") {
    return parse_number(value, fault.times);
  }
  if (key == "status") {
    return parse_number(value, fault.status) && fault.status >= 200 && fault.status <= 599;
  }
  if (key == "delay") {
    return parse_ms(value, fault.delay);
  }
  if (key == "retry-after") {
    std::uint32_t seconds = 0;
    const bool good = parse_number(value, seconds);
    fault.retry_after = std::chrono::seconds(seconds);
    return good;
  }
  if (key == "body") {
    fault.body = value;
    return true;
  }
  if (key == "ticket") {
    fault.ticket = value;
    return true;
  }
  fault.early = key == "early";
  return fault.early && value.empty();
}

void parse_fault(std::string_view text, CommandLine& line, Problems& problems) {
  Fault fault;
  bool has_action = false;
  for (std::string_view rest = text; !rest.empty();) {
    const auto [pair, tail] = split(rest, ',');
    const auto [key, value] = split(pair, '=');
    if (!parse_fault_key(key, value, fault)) {
      problems.push_back("--fault " + std::string(text) +
                         ": bad key or value: " + std::string(pair));
    }
    has_action = has_action || key == "action";
    rest = tail;
  }
  if (!has_action) {
    problems.push_back("--fault " + std::string(text) + ": needs action=NAME");
  }
  line.faults.push_back(std::move(fault));
}

bool parse_protocol(std::string_view name, ServerOptions& server) {
  constexpr std::pair<std::string_view, ProtocolKind> kNames[] = {
      {"imageio", ProtocolKind::imageio},
      {"azure", ProtocolKind::azure},
      {"webdav", ProtocolKind::webdav}};
  for (const auto& [known, kind] : kNames) {
    if (name == known) {
      server.protocol = kind;
      return true;
    }
  }
  return false;
}

bool parse_content_range_mode(std::string_view name, ContentRangeMode& mode) {
  constexpr std::pair<std::string_view, ContentRangeMode> kNames[] = {
      {"applied", ContentRangeMode::applied},
      {"ignored", ContentRangeMode::ignored},
      {"refused", ContentRangeMode::refused}};
  for (const auto& [known, kind] : kNames) {
    if (name == known) {
      mode = kind;
      return true;
    }
  }
  return false;
}

bool parse_azure_key(std::string_view key, std::string_view value, AzureOptions& azure) {
  if (key == "account") {
    azure.account = value;
    return !value.empty();
  }
  if (key == "container") {
    azure.container = value;
    return !value.empty();
  }
  if (key == "key") {
    azure.shared_key = value;
    return !value.empty();
  }
  if (key == "pages-per-list") {
    return parse_number(value, azure.pages_per_list) && azure.pages_per_list > 0;
  }
  azure.managed_disk = key == "managed";
  return azure.managed_disk && value.empty();
}

bool parse_azure(std::string_view text, AzureOptions& azure) {
  for (std::string_view rest = text; !rest.empty();) {
    const auto [pair, tail] = split(rest, ',');
    const auto [key, value] = split(pair, '=');
    if (!parse_azure_key(key, value, azure)) {
      return false;
    }
    rest = tail;
  }
  return true;
}

bool parse_listen(std::string_view text, ServerOptions& server) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return false;
  }
  std::string_view address = text.substr(0, colon);
  if (address.starts_with('[') && address.ends_with(']')) {
    address = address.substr(1, address.size() - 2);
  }
  server.listen_address = address;
  return !address.empty() && parse_number(text.substr(colon + 1), server.port);
}

enum Option : int {
  kListen = 1000,
  kProtocol,
  kContentRange,
  kMaxRequests,
  kAzure,
  kAzureSas,
  kPlain,
  kCertDir,
  kClientCa,
  kUnix,
  kPortFile,
  kDelay,
  kIdle,
  kLateApply,
  kAuthorization,
  kTokens,
  kTokenStatus,
  kTicket,
  kFault,
  kSaveStable,
  kStats,
  kHelpOption,
};

constexpr option kOptions[] = {
    {"listen", required_argument, nullptr, kListen},
    {"protocol", required_argument, nullptr, kProtocol},
    {"content-range", required_argument, nullptr, kContentRange},
    {"max-requests", required_argument, nullptr, kMaxRequests},
    {"azure", required_argument, nullptr, kAzure},
    {"azure-sas", required_argument, nullptr, kAzureSas},
    {"plain", no_argument, nullptr, kPlain},
    {"cert-dir", required_argument, nullptr, kCertDir},
    {"client-ca", required_argument, nullptr, kClientCa},
    {"unix", required_argument, nullptr, kUnix},
    {"port-file", required_argument, nullptr, kPortFile},
    {"delay-ms", required_argument, nullptr, kDelay},
    {"idle-ms", required_argument, nullptr, kIdle},
    {"late-apply-ms", required_argument, nullptr, kLateApply},
    {"authorization", required_argument, nullptr, kAuthorization},
    {"tokens", required_argument, nullptr, kTokens},
    {"token-status", required_argument, nullptr, kTokenStatus},
    {"ticket", required_argument, nullptr, kTicket},
    {"fault", required_argument, nullptr, kFault},
    {"save-stable", required_argument, nullptr, kSaveStable},
    {"stats", no_argument, nullptr, kStats},
    {"help", no_argument, nullptr, kHelpOption},
    {nullptr, 0, nullptr, 0},
};

/// False: the value is bad.
bool apply(int option, const char* value, CommandLine& line, Problems& problems) {
  ServerOptions& server = line.server;
  switch (option) {
    case kListen: return parse_listen(value, server);
    case kProtocol: return parse_protocol(value, server);
    case kContentRange: return parse_content_range_mode(value, server.webdav_content_range);
    case kMaxRequests: return parse_number(value, server.requests_per_connection);
    case kAzure: return parse_azure(value, server.azure);
    case kAzureSas: server.azure.sas = value; return *value != 0;
    case kPlain: server.tls = false; return true;
    case kCertDir: line.cert_dir = value; return !line.cert_dir.empty();
    case kClientCa: server.client_ca_file = value; return true;
    case kUnix: server.unix_socket = value; return server.unix_socket.size() > 1;
    case kPortFile: line.port_file = value; return !line.port_file.empty();
    case kDelay: return parse_ms(value, server.request_delay);
    case kIdle: return parse_ms(value, server.idle_close);
    case kLateApply: return parse_ms(value, server.late_apply);
    case kAuthorization: server.require_authorization = value; return true;
    case kTokens: server.token_file = value; return *value != 0;
    case kTokenStatus: return parse_number(value, server.token_status);
    case kTicket: parse_ticket(value, line, problems); return true;
    case kFault: parse_fault(value, line, problems); return true;
    case kSaveStable: line.stable_dir = value; return !line.stable_dir.empty();
    case kStats: line.stats = true; return true;
    default: line.help = true; return true;
  }
}

}  // namespace

std::string_view help_text() { return kHelp; }

std::variant<CommandLine, Problems> parse_command_line(int argc, char** argv) {
  CommandLine line;
  Problems problems;
  opterr = 0;
  for (;;) {
    int which = -1;
    const int option = getopt_long(argc, argv, ":", kOptions, &which);
    if (option == -1) {
      break;
    }
    if (option == '?' || option == ':') {
      problems.push_back(std::string(option == '?' ? "unknown option: " : "needs a value: ") +
                         argv[optind - 1]);
    } else if (!apply(option, optarg, line, problems)) {
      problems.push_back(std::string("bad value of --") + kOptions[which].name + ": " + optarg);
    }
  }
  for (int i = optind; i < argc; ++i) {
    problems.push_back(std::string("unexpected argument: ") + argv[i]);
  }
  if (!line.help && line.tickets.empty() && problems.empty()) {
    problems.push_back("needs at least one --ticket; see --help");
  }
  if (!problems.empty()) {
    return problems;
  }
  return line;
}

}  // namespace upload::testserver
