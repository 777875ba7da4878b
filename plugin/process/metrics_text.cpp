// SPDX-License-Identifier: BSD-3-Clause
//
// Which metrics there are. prometheus-cpp writes them; its registry is not used, since what is
// counted is counted elsewhere, without its locks.
//
// No two values of a metric may have the same labels, or Prometheus refuses the whole file: so
// disks whose names are the same when secrets are blanked out get numbers.

#include "process/metrics_text.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <chrono>
#include <cstdlib>
#include <limits>
#include <new>
#include <set>
#include <sstream>
#include <utility>

#include "base/log.h"

namespace upload {

namespace {

using prometheus::ClientMetric;
using prometheus::MetricType;
using volume::SpoolState;

using Labels = std::vector<ClientMetric::Label>;
// Nothing: the disk has no such value.
using Value = std::optional<double>;

double seconds_of(Duration time) { return std::chrono::duration<double>(time).count(); }
double number(uint64_t value) { return static_cast<double>(value); }

class Page {
 public:
  Page(const Figures& figures, const std::string& upload)
      : figures_(figures), upload_(log::line(upload)) {
    std::set<std::string> taken;
    for (const DiskFigures& disk : figures.disks) {
      const std::string name = log::line(disk.name);
      std::string unique = name;
      for (int i = 2; !taken.insert(unique).second; ++i)
        unique = name + " (" + std::to_string(i) + ")";
      volumes_.push_back(unique);
    }
  }

  void of_process(const char* name, const char* help, double value) {
    begin(MetricType::Gauge, name, help);
    add({}, value);
  }

  // `value` is a function of DiskFigures.
  template <typename Of>
  void of_disks(MetricType type, const char* name, const char* help, Of value) {
    begin(type, name, help);
    each_disk([&](const DiskFigures& disk, const Labels& labels) { add(labels, value(disk)); });
  }

  // A function of Stats::Counts.
  template <typename Of>
  void of_operations(const char* name, const char* help, Of value) {
    begin(MetricType::Counter, name, help);
    each_operation([&](const Stats::Counts& counts, const Labels& labels) {
      add(labels, number(value(counts)));
    });
  }

  // Of PoolFigures.
  template <typename Of>
  void of_servers(MetricType type, const char* name, const char* help, Of value) {
    begin(type, name, help);
    for (const ServerFigures& server : figures_.servers)
      add({{"server", log::line(server.name)}}, number(value(server.pool)));
  }

  void failures();
  void durations();
  void spool_states();
  void connections();

  [[nodiscard]] std::string text() const {
    std::vector<prometheus::MetricFamily> with_values;
    for (const prometheus::MetricFamily& family : families_)
      if (!family.metric.empty()) with_values.push_back(family);
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, with_values);
    if (!out) throw std::bad_alloc();  // a stream keeps that to itself, and is cut off there
    return out.str();
  }

 private:
  void begin(MetricType type, const char* name, const char* help) {
    families_.push_back({std::string("nbdkit_upload_") + name, help, type, {}});
  }

  ClientMetric& metric(Labels labels) {
    ClientMetric& metric = families_.back().metric.emplace_back();
    metric.label = std::move(labels);
    metric.label.insert(metric.label.begin(), {"upload", upload_});
    return metric;
  }

  void add(const Labels& labels, Value value) {
    if (!value) return;
    if (families_.back().type == MetricType::Counter)
      metric(labels).counter.value = *value;
    else
      metric(labels).gauge.value = *value;
  }

  template <typename Visit>
  void each_disk(const Visit& visit) {
    for (size_t i = 0; i < figures_.disks.size(); ++i)
      visit(figures_.disks[i], {{"volume", volumes_[i]}});
  }

  template <typename Visit>
  void each_operation(const Visit& visit) {
    each_disk([&](const DiskFigures& disk, const Labels& labels) {
      for (size_t op = 0; op < Stats::kOps; ++op) {
        Labels with_operation = labels;
        with_operation.push_back({"operation", Stats::name(static_cast<Stats::Op>(op))});
        visit(disk.volume.requests[op], with_operation);
      }
    });
  }

  const Figures& figures_;
  const std::string upload_;
  std::vector<std::string> volumes_;  // by disk
  std::vector<prometheus::MetricFamily> families_;
};

// Only of kinds that there were: of most there never are any.
void Page::failures() {
  begin(MetricType::Counter, "request_failures_total",
        "Requests to the server that failed, by what has failed.");
  each_operation([&](const Stats::Counts& counts, const Labels& labels) {
    for (const Kind kind : kKinds) {
      const uint64_t failures = counts.failures[static_cast<size_t>(kind)];
      if (failures == 0) continue;
      Labels with_kind = labels;
      with_kind.push_back({"failure", failure_label(kind)});
      add(with_kind, number(failures));
    }
  });
}

// Only of operations that there were: each is as many lines as there are buckets.
void Page::durations() {
  constexpr double kMicroseconds = 1e6;
  begin(MetricType::Histogram, "request_duration_seconds",
        "Time of requests to the server that succeeded, with its reply.");
  each_operation([&](const Stats::Counts& counts, const Labels& labels) {
    if (counts.succeeded() == 0) return;
    ClientMetric::Histogram& histogram = metric(labels).histogram;
    uint64_t so_far = 0;
    for (size_t i = 0; i < Stats::kBuckets; ++i) {
      so_far += counts.latencies[i];
      const bool last = i == Stats::kBoundsUs.size();
      histogram.bucket.push_back({so_far, last ? std::numeric_limits<double>::infinity()
                                               : number(Stats::kBoundsUs[i]) / kMicroseconds});
    }
    histogram.sample_count = so_far;
    histogram.sample_sum = number(counts.total_us) / kMicroseconds;
  });
}

void Page::spool_states() {
  begin(
      MetricType::Gauge, "spool_state",
      "1 for where changes go now: to the server (direct), into the spool (spooling), or to the "
      "server while the spool is emptied (draining).");
  each_disk([&](const DiskFigures& disk, const Labels& labels) {
    if (!disk.volume.spool) return;
    for (const auto& [state, name] :
         {std::pair(SpoolState::kDirect, "direct"), std::pair(SpoolState::kSpooling, "spooling"),
          std::pair(SpoolState::kDraining, "draining")}) {
      Labels with_state = labels;
      with_state.push_back({"state", name});
      add(with_state, disk.volume.spool->state == state ? 1 : 0);
    }
  });
}

void Page::connections() {
  begin(MetricType::Gauge, "connections", "Connections to the server, by what they do now.");
  for (const ServerFigures& server : figures_.servers)
    for (const auto& [state, count] :
         {std::pair("idle", server.pool.idle), std::pair("in-use", server.pool.in_use),
          std::pair("opening", server.pool.opening)})
      add({{"server", log::line(server.name)}, {"state", state}}, number(count));
}

void add_requests(Page& page) {
  using Counts = Stats::Counts;
  page.of_operations("request_bytes_total",
                     "Bytes of the disk that requests were about that succeeded.",
                     [](const Counts& counts) { return counts.bytes; });
  page.of_operations("requests_total", "Requests to the server that have ended, failed or not.",
                     [](const Counts& counts) { return counts.succeeded() + counts.failed(); });
  page.of_operations("client_requests_total",
                     "Requests of NBD clients, or pieces of them, that requests to the server "
                     "stood for that succeeded.",
                     [](const Counts& counts) { return counts.changes; });
  page.failures();
  page.durations();
  page.of_disks(MetricType::Counter, "retries_total",
                "Times that something was tried again after a failure.",
                [](const DiskFigures& disk) -> Value { return number(disk.volume.retries); });
}

void add_health(Page& page) {
  page.of_disks(MetricType::Gauge, "failed",
                "1 once every request fails, until nbdkit is started again.",
                [](const DiskFigures& disk) -> Value { return disk.volume.failed ? 1 : 0; });
  page.of_disks(MetricType::Gauge, "outage", "1 while requests are tried again, or spooled.",
                [](const DiskFigures& disk) -> Value { return disk.volume.outage ? 1 : 0; });
  page.of_disks(MetricType::Counter, "outages_total", "Outages so far, with the one that lasts.",
                [](const DiskFigures& disk) -> Value { return number(disk.volume.outages); });
  page.of_disks(
      MetricType::Counter, "outage_seconds_total", "Time of all outages so far.",
      [](const DiskFigures& disk) -> Value { return seconds_of(disk.volume.outage_time); });
  page.of_disks(MetricType::Gauge, "claim_held", "1 while the claim to the disk is held.",
                [](const DiskFigures& disk) -> Value {
                  if (!disk.claim) return std::nullopt;
                  return disk.claim->held ? 1 : 0;
                });
  page.of_disks(MetricType::Gauge, "claim_left_seconds",
                "Time until the claim is lost unless it is renewed.",
                [](const DiskFigures& disk) -> Value {
                  if (!disk.claim || !disk.claim->left) return std::nullopt;
                  return seconds_of(*disk.claim->left);
                });
}

void add_fill(Page& page) {
  using Log = volume::LogFigures;
  const auto log = [](uint64_t Log::*field) {
    return [field](const DiskFigures& disk) -> Value {
      if (!disk.volume.log) return std::nullopt;
      return number((*disk.volume.log).*field);
    };
  };
  page.of_disks(MetricType::Gauge, "replay_log_used_bytes", "Memory of the replay log in use.",
                log(&Log::used));
  page.of_disks(MetricType::Gauge, "replay_log_limit_bytes",
                "The most memory that the replay log may take, with what several share.",
                log(&Log::limit));
  page.of_disks(MetricType::Gauge, "unsent_bytes",
                "Acknowledged bytes that are to be sent yet, or again; also those in the spool.",
                log(&Log::to_send));

  page.spool_states();
  page.of_disks(MetricType::Gauge, "spool_used_bytes", "What is in the spool.",
                [](const DiskFigures& disk) -> Value {
                  if (!disk.volume.spool) return std::nullopt;
                  return number(disk.volume.spool->used);
                });
  page.of_disks(MetricType::Gauge, "spool_changes", "Changes in the spool.",
                [](const DiskFigures& disk) -> Value {
                  if (!disk.volume.spool) return std::nullopt;
                  return number(disk.volume.spool->rows);
                });
  page.of_disks(MetricType::Gauge, "spool_limit_bytes", "The most that may be in the spool.",
                [](const DiskFigures& disk) -> Value {
                  if (!disk.volume.spool || !disk.volume.spool->limit) return std::nullopt;
                  return number(*disk.volume.spool->limit);
                });
}

void add_connections(Page& page) {
  using upstream::PoolFigures;
  page.connections();
  page.of_servers(MetricType::Gauge, "connections_limit", "The most connections at a time.",
                  [](const PoolFigures& pool) { return pool.limit; });
  page.of_servers(MetricType::Counter, "connections_made_total", "Connections so far.",
                  [](const PoolFigures& pool) { return pool.made; });
  page.of_servers(MetricType::Gauge, "connection_waiters", "Who waits for a connection.",
                  [](const PoolFigures& pool) { return pool.waiters; });
}

}  // namespace

std::string metrics_text(const Figures& figures, const std::string& upload) {
  Page page(figures, upload);
  page.of_process("running", "1 until the process has ended; then nothing changes any more.",
                  figures.running ? 1 : 0);
  page.of_disks(MetricType::Gauge, "size_bytes", "Size of the disk.",
                [](const DiskFigures& disk) -> Value { return number(disk.volume.size); });
  add_requests(page);
  add_health(page);
  add_fill(page);
  add_connections(page);
  return page.text();
}

const char* failure_label(Kind kind) {
  switch (kind) {
    case Kind::kOk: return "none";
    case Kind::kInvalid: return "invalid";
    case Kind::kConnect: return "connect";
    case Kind::kLost: return "lost";
    case Kind::kMalformed: return "malformed";
    case Kind::kServerError: return "server-error";
    case Kind::kUnauthorized: return "unauthorized";
    case Kind::kLogin: return "login";
    case Kind::kLoggedOut: return "logged-out";
    case Kind::kDenied: return "denied";
    case Kind::kForgotten: return "forgotten";
    case Kind::kUnavailable: return "unavailable";
    case Kind::kBusy: return "busy";
    case Kind::kGateway: return "gateway";
    case Kind::kNoSpace: return "no-space";
    case Kind::kRejected: return "rejected";
    case Kind::kPoolWait: return "pool-wait";
    case Kind::kSpool: return "spool";
    case Kind::kClaimed: return "claimed";
    case Kind::kClaimLost: return "claim-lost";
    case Kind::kShutdown: return "shutdown";
    case Kind::kNoMemory: return "no-memory";
  }
  std::abort();  // no constant: a kind that is forgotten above does not compile
}

}  // namespace upload
