// SPDX-License-Identifier: BSD-3-Clause
//
// nbdkit's callbacks and the table of them. No logic: each callback asks the
// instance or the volume, and reports.
//
// Source: nbdkit-plugin(3), API version 2. Life: load, config...,
// config_complete, get_ready (the server is asked; nbdkit has not forked),
// after_fork (threads), then requests on any number of threads at a time
// (NBDKIT_THREAD_MODEL_PARALLEL), cleanup, unload. cleanup, unload and
// the closing of a client may never be called: flush is the last place where a failure can
// be told.
//
// No exception leaves this file (invariant 9): guard() wraps every callback
// that can fail. report() is the one place where an NBD error is set.
//
// All lines go through `lines`, as standard error may be full and never be read. What
// nbdkit prints by itself, with -v or of its own errors, can't be helped.

#define NBDKIT_API_VERSION 2
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#include <nbdkit-plugin.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <thread>

#include "base/log.h"
#include "base/log_queue.h"
#include "base/memory_reserve.h"
#include "ending.h"
#include "http/curl_connection.h"
#include "process/config.h"
#include "process/instance.h"
#include "process/metrics_file.h"
#include "process/metrics_publisher.h"
#include "process/metrics_text.h"
#include "target/target.h"
#include "volume/verdict.h"

namespace {

using upload::Clients;
using upload::Config;
using upload::ConfigParser;
using upload::Disk;
using upload::Instance;
using upload::Kind;
using upload::LogQueue;
using upload::MetricsPublisher;
using upload::Result;
using upload::Status;
using upload::volume::Volume;

// nbdcopy looks for zeroes in blocks of this size: small enough to keep
// a fragmented image sparse, large enough to make few requests of it.
constexpr uint32_t kPreferredBlock = 64U << 10;
constexpr uint32_t kMaximumBlock = 32U << 20;

// nbdkit's single instance of the plugin. Set up and torn down on its main
// thread while no request is served.
ConfigParser* parser = nullptr;
Config* config = nullptr;
Instance* instance = nullptr;
MetricsPublisher* metrics = nullptr;  // with metrics=

// A moment, in which the log's thread does not notice that it is to end.
constexpr int kReadyMs = 100;

// For the log's thread, which nbdkit knows no name of: so what it prints begins with
// "nbdkit: error: ", or goes to syslog, as nbdkit's option --log says.
void write_line(LogQueue::Level level, const char* line) {
  if (level == LogQueue::Level::kError) return nbdkit_error("%s", line);
  // To standard error, which nbdkit_debug reaches only with -v.
  if (level == LogQueue::Level::kNotice) {
    fprintf(stderr, "nbdkit: upload: %s\n", line);
    return;
  }
  nbdkit_debug("%s", line);
  if (level == LogQueue::Level::kWarning) fprintf(stderr, "nbdkit: upload: warning: %s\n", line);
}

// Never destroyed: see LogQueue::stop().
LogQueue* lines = nullptr;

// Without state.
upload::SteadyClock the_clock;

void say(LogQueue::Level level, std::string_view line) noexcept {
  try {
    lines->add(level, upload::log::line(std::string(line)));
  } catch (const std::bad_alloc&) {
    lines->add(level, "out of memory");
  }
}

// Returns what a callback returns.
int report(const Status& status) {
  if (status.ok()) return 0;
  // At the end each request that was under way has the same to say, and the
  // volume has said it.
  say(status.kind() == Kind::kShutdown ? LogQueue::Level::kDebug : LogQueue::Level::kError,
      status.text());
  nbdkit_set_error(upload::volume::verdict_of_kind(status.kind()).nbd_errno);
  return -1;
}

// A thread that could not be started, as a rule.
void say_internal_error(const char* what) noexcept {
  try {
    say(LogQueue::Level::kError, std::string("internal error: ") + what);
  } catch (const std::bad_alloc&) {
    say(LogQueue::Level::kError, "internal error");
  }
}

// Runs `body`, which returns a Status.
template <typename Body>
int guard(Body body) noexcept {
  try {
    return report(body());
  } catch (const std::bad_alloc&) {
    say(LogQueue::Level::kError, "out of memory");
    nbdkit_set_error(ENOMEM);
  } catch (const std::exception& e) {
    say_internal_error(e.what());
    nbdkit_set_error(EIO);
  }
  return -1;
}

// For what a client asks: nothing is begun that could not be brought to an end.
template <typename Body>
int serve(Body body) noexcept {
  return guard([&]() -> Status {
    if (!upload::MemoryReserve::there()) return {Kind::kNoMemory, "out of memory"};
    return body();
  });
}

void debug_line(const char* line) { lines->add(LogQueue::Level::kDebug, line); }
void warning_line(const char* line) { lines->add(LogQueue::Level::kWarning, line); }
void notice_line(const char* line) { lines->add(LogQueue::Level::kNotice, line); }

Result<std::string> read_password(const std::string& value) {
  char* password = nullptr;
  if (nbdkit_read_password(value.c_str(), &password) == -1)
    return Status(Kind::kInvalid, "cannot be read");
  std::string result = password;
  free(password);
  return result;
}

// nbdkit's sleep is not for the time before it serves, in which any signal ends it at once.
bool serving = false;

// What ends nbdkit without a signal (nbdkit_shutdown(3)) is told by its own sleep alone. As
// that prints a line when it does, it is as short as it can be, and there has to be room.
bool sleep_unless_ending(upload::Duration time) {
  constexpr upload::Duration kLook = std::chrono::milliseconds(100);
  const upload::TimePoint end = std::chrono::steady_clock::now() + time;
  if (!serving) {
    std::this_thread::sleep_until(end);
    return false;
  }
  for (;;) {
    if (upload::ending_signal_has_come()) return true;
    if (upload::standard_error_takes_a_line(0) && nbdkit_nanosleep(0, 1) == -1) return true;
    const upload::TimePoint now = std::chrono::steady_clock::now();
    if (now >= end) return false;
    std::this_thread::sleep_for(std::min(kLook, end - now));
  }
}

// --- Starting -------------------------------------------------------------

void upload_load() {
  lines = new LogQueue({[] { return upload::standard_error_takes_a_line(kReadyMs); }, write_line},
                       the_clock);
  upload::log::set_sinks({debug_line, warning_line, notice_line});
  // Secrets are in memory soon. Neither core files nor others of the same user get at them
  // then (prctl(2)).
  if (upload_debug_core == 0) prctl(PR_SET_DUMPABLE, 0);
  if (!upload::http::global_init().ok()) {
    nbdkit_error("libcurl could not be initialised");
    exit(EXIT_FAILURE);
  }
  parser = new ConfigParser(read_password);
}

int upload_config(const char* key, const char* value) {
  return guard([&] { return parser->set(key, value); });
}

int upload_config_complete() {
  return guard([] {
    Result<Config> complete = parser->complete();
    if (complete.ok()) config = new Config(std::move(complete.value()));
    return complete.status();
  });
}

Status prepare_metrics() {
  if (config->metrics.empty()) return {};
  const upload::MetricsFile file(config->metrics);
  metrics = new MetricsPublisher(
      {[file] { return upload::metrics_text(instance->figures(), file.title()); },
       [file](const std::string& text) { return file.replace(text); }},
      the_clock);
  return file.probe();
}

int upload_get_ready() {
  return guard([] {
    if (config->origin.insecure && config->origin.url.scheme == "https")
      upload::log::warning(
          "insecure=true: the server's certificate is not checked; "
          "anyone on the way can read and change the disk");
    instance = new Instance(*config, upload::real_environment(sleep_unless_ending));
    if (Status status = prepare_metrics(); !status.ok()) return status;
    return instance->discover();
  });
}

int upload_after_fork() {
  const int result = guard([] {
    serving = true;
    upload::notice_ending_signals();
    upload::MemoryReserve::set_up();
    lines->start();
    Status status = instance->start();
    if (status.ok() && metrics != nullptr) metrics->start();
    return status;
  });
  // nbdkit exits then, without a further callback.
  if (result != 0) lines->stop();
  return result;
}

// With a last look at the instance.
void end_metrics() {
  if (metrics != nullptr && metrics->stop()) delete metrics;
  metrics = nullptr;
}

void upload_cleanup() {
  if (instance != nullptr) instance->stop();
  end_metrics();
  lines->drain();
}

void upload_unload() {
  end_metrics();
  delete instance;
  delete config;
  delete parser;
  instance = nullptr;
  lines->stop();
  upload::http::global_cleanup();
}

void upload_dump_plugin() {
  printf("upload_version=%s\n", PACKAGE_VERSION);
  printf("upload_libcurl=%s\n", upload::http::library_version().c_str());
  printf("upload_targets=%s\n", upload::target::target_names().c_str());
  printf(
      "upload_features=group-commit keeper native-fua extents unix-socket replay spool "
      "exports sessions create checksum claims metrics\n");
}

// --- Serving --------------------------------------------------------------

int upload_list_exports(int, int, nbdkit_exports* exports) {
  if (instance->nameless()) return nbdkit_use_default_export(exports);
  for (const auto& disk : instance->disks())
    if (nbdkit_add_export(exports, disk->name().c_str(), nullptr) == -1) return -1;
  return 0;
}

const char* upload_default_export(int, int) { return instance->disks().front()->name().c_str(); }

// What nbdkit has for each client.
struct Client {
  Disk& disk;
  Clients::Id id;
};

Disk& disk_of(void* handle) { return static_cast<Client*>(handle)->disk; }
Volume& volume_of(void* handle) { return disk_of(handle).volume(); }

// Of a client on a unix socket; 0: not known. nbdkit_peer_pid() calls others an error.
pid_t process_of_client() {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  if (nbdkit_peer_name(reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return address.ss_family == AF_UNIX ? static_cast<pid_t>(nbdkit_peer_pid()) : 0;
}

// What an earlier run has left in the spool goes before the first client.
void* upload_open(int) {
  Client* client = nullptr;
  const int result = guard([&]() -> Status {
    const char* const name = nbdkit_export_name();
    Result<Disk*> opened = instance->open(name == nullptr ? "" : name);
    if (!opened.ok()) return opened.status();
    Disk& disk = *opened.value();
    client =
        new Client{disk, disk.clients().come(disk.counts_clients() ? process_of_client() : 0)};
    return {};
  });
  return result == 0 ? client : nullptr;
}

// What is shared stays: the login, the connections, what is unflushed.
void upload_close(void* handle) {
  UPLOAD_DEBUG(session, "session: a client has gone; the login and the connections stay");
  auto* const client = static_cast<Client*>(handle);
  client->disk.clients().go(client->id);
  delete client;
}

const char* upload_export_description(void* handle) {
  return disk_of(handle).description().c_str();
}

int64_t upload_get_size(void* handle) { return static_cast<int64_t>(volume_of(handle).size()); }

int upload_can_write(void* handle) { return volume_of(handle).capabilities().can_write; }
// Also where each change is stable when it is acknowledged: clients ask for a flush.
int upload_can_flush(void*) { return 1; }
int upload_can_zero(void*) { return 1; }
int upload_can_fast_zero(void*) { return 0; }
int upload_can_trim(void*) { return 0; }
int upload_is_rotational(void*) { return 0; }
int upload_can_cache(void*) { return NBDKIT_CACHE_NONE; }

int upload_can_fua(void*) { return NBDKIT_FUA_NATIVE; }

// A flush covers every connection of the volume, whoever dirtied it.
int upload_can_multi_conn(void*) { return 1; }

int upload_can_extents(void* handle) { return volume_of(handle).capabilities().can_extents; }

int upload_block_size(void* handle, uint32_t* minimum, uint32_t* preferred, uint32_t* maximum) {
  *minimum = volume_of(handle).capabilities().traits.alignment;
  *preferred = kPreferredBlock;
  *maximum = kMaximumBlock;
  return 0;
}

int upload_pread(void* handle, void* buffer, uint32_t count, uint64_t offset, uint32_t) {
  return serve([&] { return volume_of(handle).read({offset, count}, buffer); });
}

int upload_pwrite(void* handle, const void* buffer, uint32_t count, uint64_t offset,
                  uint32_t flags) {
  return serve([&] {
    return volume_of(handle).write({offset, count}, buffer, flags & NBDKIT_FLAG_FUA);
  });
}

int upload_zero(void* handle, uint32_t count, uint64_t offset, uint32_t flags) {
  return serve([&] { return volume_of(handle).zero({offset, count}, flags & NBDKIT_FLAG_FUA); });
}

int upload_flush(void* handle, uint32_t) {
  return serve([&] { return volume_of(handle).flush(); });
}

int upload_extents(void* handle, uint32_t count, uint64_t offset, uint32_t flags,
                   nbdkit_extents* extents) {
  return serve([&]() -> Status {
    auto all = volume_of(handle).extents();
    if (!all.ok()) return all.status();
    const auto& list = *all.value();
    // The first that ends after the offset.
    auto extent = std::partition_point(list.begin(), list.end(),
                                       [&](const auto& e) { return e.range.end() <= offset; });
    // No more than was asked for: nbdkit 1.32 aborts when one that begins in a request of
    // 4 GiB goes on behind it.
    const uint64_t end = offset + count;
    for (; extent != list.end() && extent->range.offset < end; ++extent) {
      const uint32_t type =
          (extent->zero ? NBDKIT_EXTENT_ZERO : 0U) | (extent->hole ? NBDKIT_EXTENT_HOLE : 0U);
      if (nbdkit_add_extent(extents, extent->range.offset,
                            std::min(extent->range.end(), end) - extent->range.offset,
                            type) == -1)
        return {Kind::kNoMemory, "the extents could not be passed on"};
      if ((flags & NBDKIT_FLAG_REQ_ONE) != 0) break;
    }
    return {};
  });
}

// C++ has no designated initialisers out of order, so the table is filled in.
nbdkit_plugin make_table() {
  nbdkit_plugin table = {};
  table.name = "upload";
  table.longname = "nbdkit upload plugin";
  table.version = PACKAGE_VERSION;
  table.description = "upload disk images to an HTTPS image server";
  table.load = upload_load;
  table.unload = upload_unload;
  table.config = upload_config;
  table.config_complete = upload_config_complete;
  table.config_help = ConfigParser::help();
  table.magic_config_key = "url";
  table.dump_plugin = upload_dump_plugin;
  table.get_ready = upload_get_ready;
  table.after_fork = upload_after_fork;
  table.cleanup = upload_cleanup;
  table.list_exports = upload_list_exports;
  table.default_export = upload_default_export;
  table.open = upload_open;
  table.close = upload_close;
  table.export_description = upload_export_description;
  table.get_size = upload_get_size;
  table.can_write = upload_can_write;
  table.can_flush = upload_can_flush;
  table.can_zero = upload_can_zero;
  table.can_fast_zero = upload_can_fast_zero;
  table.can_trim = upload_can_trim;
  table.can_fua = upload_can_fua;
  table.can_multi_conn = upload_can_multi_conn;
  table.can_extents = upload_can_extents;
  table.can_cache = upload_can_cache;
  table.is_rotational = upload_is_rotational;
  table.block_size = upload_block_size;
  table.pread = upload_pread;
  table.pwrite = upload_pwrite;
  table.zero = upload_zero;
  table.flush = upload_flush;
  table.extents = upload_extents;
  return table;
}

nbdkit_plugin plugin = make_table();

}  // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
