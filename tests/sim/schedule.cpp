// SPDX-License-Identifier: BSD-3-Clause
//
// A schedule has up to three lives of the plugin, and then a last one in which
// nothing goes wrong, after which all that was ever promised must be true.
//
// A life: Instance as nbdkit would have it (discover, start, stop), with one disk or several
// over the same connections, clients of each that are fibers, a fiber that makes trouble. It ends cleanly, or is killed at a
// step that was drawn.
//
// What is checked:
//   - each read, and each extent that is said to be zero, against the Model;
//   - the server's stable image after each flush that succeeded, and after the
//     last life; with spool-flush=local only then;
//   - that operations end within a bound that follows from the parameters;
//   - that no operation fails while the server has been well for so long that
//     the parameters say it must not; well for that disk, whatever the others have;
//   - with claims: that nothing is sent to a disk that another may have, and that no flush
//     succeeds that was begun after another has got it;
//   - that with spool-flush=local no flush fails while the disk is well;
//   - memory and room against their limits; connections that are left open;
//   - whatever the plugin itself asserts.

#include "sim/schedule.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "base/log.h"
#include "base/thread.h"
#include "fixture/model.h"
#include "http/url.h"
#include "process/instance.h"
#include "sim/clock.h"
#include "sim/ledger.h"
#include "sim/memory_disk.h"
#include "sim/scheduler.h"
#include "sim/server.h"
#include "sim/sqlite_disk.h"

namespace upload::sim {

namespace {

using namespace std::chrono_literals;
using fixture::Cells;
using fixture::Geometry;
using fixture::Model;
using soak::Random;

struct Plan {
  Mode mode = Mode::kOff;
  ServerOptions server;
  unsigned lives = 1;
  unsigned kills_percent = 0;
  unsigned clients = 1;      // of each disk
  unsigned operations = 20;  // of each client and life
  // Of operations, in percent; the rest are writes.
  unsigned fua = 5, flush = 5, read = 25, zero = 15, extents = 2;
  unsigned hot = 50;
  uint64_t most_bytes = uint64_t{32} << 10;
  bool storm = false;
  unsigned idle_percent = 0;  // before an operation a client may rest for minutes
  Duration longest_rest{0};   // before its first
  Behaviour trouble;
  unsigned outages = 0;  // of each life
  Duration longest_outage{0};
  bool freezes = false;
  bool denies = false;
  bool tokens = false;           // a login is needed
  std::optional<Duration> life;  // of a token
  bool stops = false;            // the process is stopped now and then (SIGSTOP)
  bool claims = false;           // each disk has one uploader
  bool disk_fills = false;
  bool disk_fails = false;
  bool real_store = false;  // SQLite's, in place of one in memory
  // Whether Volume::check() is asked at every unlock. It takes longer than all else, so
  // that a schedule in eight does.
  bool checks = false;
  // The same in each life: it bounds what a server may do late.
  Duration timeout{0};
  Duration idle_timeout{0};
};

template <typename T, size_t kSize>
T pick(Random& random, const T (&list)[kSize]) {
  return list[random.below(kSize)];
}

// Many clients write to the same few cells, and flush, over connections that break all
// the time: content is hidden by newer content while either is being flushed or lost.
void make_storm(Random& random, Plan& plan) {
  plan.storm = true;
  plan.server.max_connections = 4;
  plan.server.upstreams = 0;
  plan.server.can_flush = true;
  plan.lives = 1;
  plan.clients = static_cast<unsigned>(random.between(3, 8));
  plan.operations = 25;
  plan.hot = 100;
  plan.flush = pick(random, {10U, 30U});
  plan.read = 2;
  plan.fua = 0;
  plan.idle_percent = 0;
  plan.outages = 0;
  const bool harsh = plan.trouble.harsh;
  plan.trouble = Behaviour();
  plan.trouble.lost = pick(random, {uint64_t{50}, uint64_t{200}});
  plan.trouble.closes = pick(random, {uint64_t{0}, uint64_t{100}});
  plan.trouble.harsh = harsh;
  plan.trouble.latency = pick(random, {Duration(5ms), Duration(100ms)});
}

// A server that freezes again and again, with requests in it that were lost.
void make_frost(Random& random, Plan& plan) {
  plan.server.upstreams = 0;
  plan.clients = static_cast<unsigned>(random.between(2, 8));
  plan.operations = 30;
  plan.hot = 100;
  plan.fua = 30;
  plan.idle_percent = 0;
  plan.timeout = 2s;
  plan.freezes = true;
  plan.denies = plan.stops = plan.disk_fails = plan.disk_fills = false;
  plan.outages = static_cast<unsigned>(random.between(3, 12));
  plan.longest_outage = 10s;
  plan.trouble = Behaviour();
  plan.trouble.lost = pick(random, {uint64_t{20}, uint64_t{100}});
  plan.trouble.late = 90;
  plan.trouble.latency = pick(random, {Duration(100ms), Duration(1s)});
}

// Nothing goes wrong, but tickets expire that are not used. Some clients come hours later than
// others.
void make_wait(Random& random, Plan& plan) {
  plan.server.protocol = Protocol::kImageio;
  plan.server.missing = false;
  plan.server.max_requests = 0;
  plan.server.ticket_life = 2 * plan.idle_timeout;
  plan.server.disks = static_cast<unsigned>(random.between(1, 3));
  plan.server.upstreams = 0;
  plan.clients = 1;
  plan.operations = 4;
  plan.lives = 1;
  plan.kills_percent = 0;
  plan.idle_percent = 0;
  plan.longest_rest = 3h;
  plan.outages = 0;
  plan.freezes = plan.denies = plan.stops = plan.disk_fails = plan.disk_fills = false;
  plan.trouble = Behaviour();
}

void draw_protocol(Random& random, ServerOptions& server) {
  const uint64_t percent = random.below(100);
  server.protocol = percent < 60   ? Protocol::kImageio
                    : percent < 88 ? Protocol::kAzure
                                   : Protocol::kWebdav;
  if (server.protocol == Protocol::kImageio) return;
  server.missing = random.percent(20);
  // One connection carries all of discovery.
  server.max_requests = pick(random, {0U, 0U, 1U, 2U, 5U, 100U});
  if (server.missing && server.max_requests > 0)
    server.max_requests = std::max(server.max_requests, 3U);
}

Plan draw_plan(Random& random, Mode mode) {
  Plan plan;
  plan.mode = mode;
  plan.server.size = pick(random, {uint64_t{20} << 10, uint64_t{32} << 10, uint64_t{64} << 10});
  draw_protocol(random, plan.server);
  plan.server.can_zero = !random.percent(15);
  plan.server.can_flush = !random.percent(8);
  plan.server.max_connections = pick(random, {1U, 2U, 4U, 8U});
  plan.server.upstreams = random.percent(10) ? static_cast<unsigned>(random.between(1, 4)) : 0;
  plan.server.disks = pick(random, {1U, 1U, 1U, 2U, 3U});
  plan.lives = pick(random, {1U, 1U, 2U, 3U});
  plan.kills_percent = random.percent(40) ? 70 : 0;
  plan.clients = static_cast<unsigned>(random.between(1, 8));
  plan.operations = static_cast<unsigned>(random.between(5, 120)) / plan.clients + 1;
  plan.hot = pick(random, {0U, 30U, 80U, 100U});
  plan.flush = pick(random, {1U, 5U, 5U, 30U});
  plan.read = pick(random, {5U, 25U});
  plan.fua = pick(random, {0U, 5U, 30U});
  plan.idle_percent = pick(random, {0U, 0U, 3U});
  Behaviour& trouble = plan.trouble;
  const uint64_t rate = pick(random, {uint64_t{0}, uint64_t{5}, uint64_t{20}, uint64_t{100}});
  const auto some = [&] { return random.percent(60) ? rate : 0; };
  trouble.lost = some();
  trouble.refused = some();
  trouble.stalls = some() / 4;
  trouble.slow = some() / 2;
  trouble.lies = some() / 2;
  trouble.last = some();
  trouble.closes = some() * 2;
  trouble.not_opened = some();
  trouble.late = random.percent(60) ? 50 : 0;
  trouble.harsh = random.percent(50);
  trouble.silly_retry_after = random.percent(20);
  trouble.latency = pick(random, {Duration(1ms), Duration(20ms), Duration(500ms)});
  plan.outages = pick(random, {0U, 0U, 1U, 3U});
  plan.longest_outage = pick(random, {Duration(2s), Duration(60s), Duration(2h)});
  plan.freezes = random.percent(30);
  plan.denies = random.percent(5);
  plan.stops = random.percent(15);
  plan.tokens = random.percent(25);
  plan.life = pick(random, {std::optional<Duration>(), std::optional<Duration>(10s),
                            std::optional<Duration>(60s), std::optional<Duration>(3600s)});
  plan.server.expired_is_403 = random.percent(30);
  plan.disk_fills = random.percent(10);
  plan.timeout = pick(random, {Duration(2s), Duration(10s), Duration(60s)});
  plan.idle_timeout = pick(random, {Duration(5s), Duration(30s)});
  plan.disk_fails = random.percent(6);
  plan.real_store = (mode == Mode::kSpool || mode == Mode::kLocal) && random.percent(12);
  if (random.percent(10))
    make_storm(random, plan);
  else if (random.percent(6))
    make_frost(random, plan);
  else if (random.percent(1))
    make_wait(random, plan);
  // Without a request for zeroes one change may be as large as the disk.
  if (plan.server.can_zero && random.percent(25)) {
    plan.server.largest_body = uint64_t{16} << 10;
    plan.most_bytes = std::min(plan.most_bytes, plan.server.largest_body / 2);
  }
  if (plan.server.disks > 1) plan.clients = std::min(plan.clients, 4U);
  // Not where tickets expire: whoever waits for a claim does not use one.
  plan.claims = random.percent(15) && plan.longest_rest == Duration::zero();
  return plan;
}

// In the ledgers.
std::string volume_name(unsigned disk) { return "volume" + std::to_string(disk); }

// `anything_left`: in a spool, by an earlier life.
Config draw_config(Random& random, const Plan& plan, bool anything_left) {
  Config config;
  // The same disk under another name.
  const char* const host = random.percent(80) ? "server" : "127.0.0.1";
  const std::optional<uint64_t> size = plan.server.size;
  config.target = name_of(plan.server.protocol);
  config.create = plan.server.missing;
  if (plan.server.missing) config.size = size;
  for (unsigned disk = 0; disk < plan.server.disks; ++disk) {
    const std::string number = std::to_string(disk);
    const auto url = http::parse_url("https://" + std::string(host) + ":54322" +
                                     path_of(plan.server.protocol, disk));
    config.exports.push_back({"disk" + number, url.value(),
                              plan.server.missing ? size : std::nullopt, volume_name(disk)});
  }
  if (plan.claims) {
    config.claim_name = volume_name(0);
    config.claim.directory = "/claims";  // environment_of() has other ledgers
    config.claim.steal = true;
    config.claim.wait = 1h;
  }
  config.origin.url = config.exports.front().url;
  if (plan.server.disks == 1) config.exports.clear();
  config.spool_leftovers = SpoolLeftovers::kSend;
  config.origin.connect_timeout = pick(random, {Duration(1s), Duration(10s)});
  config.origin.timeout = plan.timeout;
  config.timeout_given = true;
  config.connections = pick(random, {1U, 2U, 4U});
  if (plan.storm) config.connections = std::max(config.connections, 2U);
  config.max_request = pick(random, {uint64_t{4} << 10, uint64_t{16} << 10, uint64_t{1} << 20});
  if (plan.server.largest_body > 0)
    config.max_request = std::min(config.max_request, plan.server.largest_body);
  config.idle_timeout = plan.idle_timeout;
  if (plan.tokens) {
    config.access.token_url = http::parse_url("https://login/token").value();
    config.access.client_id = "simulation";
    config.access.client_secret = "a-secret-0123456789";
    config.access.reuse_session = random.percent(80);
    config.access.validate_session = random.percent(20);
  }
  config.retry_time = pick(random, {Duration(5s), Duration(30s), Duration(300s)});
  if (plan.mode == Mode::kOff) return config;
  config.replay = plan.server.disks *
                  pick(random, {uint64_t{64} << 10, uint64_t{256} << 10, uint64_t{1} << 20});
  config.write_back = random.percent(40);
  if (plan.mode == Mode::kReplay) {
    // In some lives it is forgotten.
    if (random.percent(8)) {
      config.replay = 0;
      config.write_back = false;
    }
    return config;
  }
  // Without a spool only where nothing is left in one: its user is told to.
  if (random.percent(8) && !anything_left) return config;
  config.spool = "/spool";
  config.spool_local = plan.mode == Mode::kLocal;
  const uint64_t factor = pick(random, {uint64_t{0}, uint64_t{1}, uint64_t{2}});
  if (factor > 0) config.spool_size = config.replay * factor;
  return config;
}

// What page blobs and WebDAV files acknowledge is stable, without a flush. What fails there for a
// reason that passes is tried again, also without a replay log.
bool is_stable_on_reply(const Plan& plan) { return plan.server.protocol != Protocol::kImageio; }
bool persists(const Plan& plan, const Config& config) {
  return config.replay > 0 || is_stable_on_reply(plan);
}

// Everything that outlives a life.
struct World {
  World(const Plan& p, uint64_t seed) : plan(p), server(p.server), random(seed, 3) {
    for (unsigned i = 0; i < p.server.disks; ++i)
      models.push_back(std::make_unique<Model>(p.server.size, true));
    if (p.real_store)
      disk = std::make_unique<SqliteDisk>();
    else
      disk = std::make_unique<MemoryDisk>();
    if (p.tokens) server.tokens = &tokens;
    tokens.life = p.life;
    if (!p.claims) return;
    server.on_sent = [this](unsigned number) {
      require(ledgers.is_plugins(ledger_of(number)),
              "a request is sent to a disk whose claim has run out");
    };
  }
  [[nodiscard]] static std::string ledger_of(unsigned number) {
    return claim::hash_of(volume_name(number), {});
  }
  // Of all servers.
  [[nodiscard]] uint64_t faults() const {
    return server.faults() + tokens.faults() + ledgers.faults();
  }
  const Plan plan;
  Server server;
  TokenServer tokens;
  Ledgers ledgers;
  std::unique_ptr<Disk> disk;
  SimClock clock;
  std::vector<std::unique_ptr<Model>> models;  // of each disk
  Random random;                               // of what the clients do
  Tally tally;
  Duration latest_timeout{0};
  // The plugin has said that nobody should start again before the time-out.
  bool told_to_wait = false;
  // In this life something has failed, of any disk; what follows from it is not looked at.
  bool has_failed = false;
  // The disk had said that something was durable that was not, and the power went: the
  // start may be refused.
  bool may_be_damaged = false;
  std::string not_started;  // why not

  void judge_failure(const char* what, unsigned number, const Status& status,
                     const Config& config);
};

World* the_world = nullptr;  // for the log

// Where requests are tried again nothing fails while the server has been well for longer than
// it takes to notice.
void World::judge_failure(const char* what, unsigned number, const Status& status,
                          const Config& config) {
  // Only the first disk is ever denied.
  const bool denied = plan.denies && number == 0;
  // A claim that is lost fails all that comes.
  if (status.text().find("claim") != std::string::npos) return;
  if (has_failed || !persists(plan, config) || denied || plan.disk_fills || plan.disk_fails)
    return;
  const Behaviour& b = plan.trouble;
  if (b.lost + b.refused + b.stalls + b.lies + b.last + b.closes + b.not_opened > 0) return;
  // One that is not answered leaves the others connections, if there are enough.
  const unsigned connections = std::min(config.connections, plan.server.max_connections);
  const auto well_since =
      connections >= plan.server.disks ? server.well_since(number) : server.well_since();
  // A request that nobody answers takes its time to fail.
  const Duration to_notice =
      20s + (server.has_hung() || tokens.has_hung() || plan.stops
                 ? Duration(config.origin.timeout + config.origin.connect_timeout)
                 : Duration(0));
  const auto can_log_in_since = tokens.well_since();
  if (!well_since || !can_log_in_since || tokens.fails > 0) return;
  if (scheduler().now() - std::max(*well_since, *can_log_in_since) < to_notice) return;
  fail(std::string(what) + " fails although the server is well: " + status.text());
}

// --- Clients --------------------------------------------------------------

class Client {
 public:
  Client(World& world, unsigned disk, volume::Volume& volume, const Config& config,
         uint64_t stream)
      : world_(world),
        disk_(disk),
        model_(*world.models[disk]),
        volume_(volume),
        config_(config),
        random_(world.random.next(), stream) {}

  void run(unsigned operations) {
    if (world_.plan.longest_rest > Duration::zero())
      scheduler().sleep(std::chrono::seconds(random_.below(static_cast<uint64_t>(
          std::chrono::duration_cast<std::chrono::seconds>(world_.plan.longest_rest).count()))));
    for (unsigned i = 0; i < operations && failures_ < 6; ++i) {
      rest();
      one();
    }
  }
  bool flush();
  void read_all();

 private:
  using Time = Model::Time;
  void rest();
  void one();
  void change(bool zero);
  void read(Cells cells);
  void extents();
  Cells draw_cells();
  void ended(const char* what, const Status& status);
  void check_stable(const char* when) const;
  void check_claim() const;
  void start() {
    started_ = scheduler().now();
    stopped_ = scheduler().stopped_time();
  }

  World& world_;
  const unsigned disk_;
  Model& model_;
  volume::Volume& volume_;
  const Config& config_;
  Random random_;
  unsigned failures_ = 0;
  const TimePoint started_life_ = scheduler().now();
  TimePoint started_;
  Duration stopped_{0};
};

void Client::rest() {
  if (random_.percent(world_.plan.idle_percent))
    scheduler().sleep(std::chrono::seconds(random_.below(300)));
  else if (random_.percent(30))
    scheduler().sleep(std::chrono::milliseconds(random_.below(200)));
}

Cells Client::draw_cells() {
  const uint64_t all = model_.geometry().cells();
  const uint64_t most = world_.plan.most_bytes;
  Cells cells;
  cells.count = random_.percent(10)   ? random_.between(1, 600)
                : random_.percent(50) ? random_.between(1, 64)
                                      : random_.between(1, 6);
  if (random_.percent(world_.plan.hot)) {
    static constexpr uint64_t kPlaces[] = {0, Geometry::kByteCells - 8, Geometry::kFineCells - 8};
    const uint64_t place = random_.any_of(kPlaces);
    cells.count = std::min<uint64_t>(cells.count, 16);
    cells.first = place + random_.below(16);
    if (world_.plan.storm) cells = {random_.below(3), random_.between(1, 3)};
  } else {
    cells.count = std::min(cells.count, all);
    cells.first = random_.below(all - cells.count + 1);
  }
  cells.count = std::min(cells.count, all - cells.first);
  while (cells.count > 1 && Geometry::bytes_of(cells) > most) cells.count = (cells.count + 1) / 2;
  return cells;
}

void Client::one() {
  const Plan& plan = world_.plan;
  uint64_t kind = random_.below(100);
  const auto is = [&](unsigned percent) {
    const bool chosen = kind < percent;
    kind -= chosen ? 0 : percent;
    return chosen;
  };
  if (is(plan.flush))
    flush();
  else if (is(plan.read))
    read(draw_cells());
  else if (is(plan.extents))
    extents();
  else
    change(is(plan.zero));
}

void Client::change(bool zero) {
  const Cells cells = draw_cells();
  const ByteRange range{Geometry::offset_of(cells.first), Geometry::bytes_of(cells)};
  const bool fua = random_.percent(world_.plan.fua);
  const Time began = model_.begin_write(cells, zero);
  std::vector<char> data(range.length);
  Model::fill(cells, zero ? 0 : began, data);
  start();
  scheduler().note("%s %llu: %llu bytes at %llu%s", zero ? "zero" : "write",
                   static_cast<unsigned long long>(began),
                   static_cast<unsigned long long>(range.length),
                   static_cast<unsigned long long>(range.offset), fua ? ", FUA" : "");
  const Status status = zero ? volume_.zero(range, fua) : volume_.write(range, data.data(), fua);
  const bool all_stable =
      is_stable_on_reply(world_.plan) && config_.spool.empty() && !config_.write_back;
  model_.end_write(began, cells, status.ok(), all_stable || (fua && !config_.spool_local));
  ended(zero ? "zero" : "write", status);
}

void Client::read(Cells cells) {
  const ByteRange range{Geometry::offset_of(cells.first), Geometry::bytes_of(cells)};
  const Time began = model_.begin();
  std::vector<char> data(range.length, '?');
  start();
  const Status status = volume_.read(range, data.data());
  if (status.ok()) {
    const auto wrong = model_.check_read(began, cells, data);
    // Without replay a server that has lost something shows it before anybody
    // can know.
    if (!wrong.empty() && (persists(world_.plan, config_) || world_.faults() == 0))
      fail("a read of " + std::to_string(range.length) + " bytes at offset " +
           std::to_string(range.offset) + " is wrong: " + model_.describe(wrong.front()));
  }
  model_.end(began);
  ended("read", status);
}

void Client::extents() {
  if (!volume_.capabilities().can_extents) return;
  const Time began = model_.begin();
  start();
  const auto extents = volume_.extents();
  if (extents.ok()) {
    for (const target::Extent& extent : *extents.value()) {
      if (!extent.zero) continue;
      const uint64_t first = Geometry::cell_at(extent.range.offset);
      const Cells cells{first, Geometry::cell_at(extent.range.end()) - first};
      const std::vector<char> zeroes(extent.range.length, 0);
      const auto wrong = model_.check_read(began, cells, zeroes);
      if (!wrong.empty() && (persists(world_.plan, config_) || world_.faults() == 0))
        fail("an extent is said to be zero: " + model_.describe(wrong.front()));
    }
  }
  model_.end(began);
  ended("extents", extents.ok() ? Status() : extents.status());
}

bool Client::flush() {
  const Time began = model_.begin();
  start();
  const Status status = volume_.flush();
  if (status.ok()) {
    check_claim();
    model_.flushed(began);
    ++world_.tally.flushes;
    if (!config_.spool_local) check_stable("after a flush");
  }
  model_.end(began);
  ended("flush", status);
  return status.ok();
}

void Client::check_claim() const {
  const auto since =
      world_.plan.claims ? world_.ledgers.rival_since(World::ledger_of(disk_)) : std::nullopt;
  if (!since || *since < started_life_) return;
  require(started_ < *since, "a flush succeeds that was begun after another had the claim");
}

void check_stable_image(World& world, unsigned disk, const char* when) {
  const Model& model = *world.models[disk];
  const Cells all{0, model.geometry().cells()};
  const auto wrong =
      model.check_stable(all, model.floors(all), world.server.image(disk).stable());
  if (!wrong.empty())
    fail(std::to_string(wrong.size()) + " cells of the stable image are wrong " + when + ": " +
         model.describe(wrong.front()));
}

void check_stable_images(World& world, const char* when) {
  for (unsigned disk = 0; disk < world.models.size(); ++disk)
    check_stable_image(world, disk, when);
}

void Client::check_stable(const char* when) const { check_stable_image(world_, disk_, when); }

void Client::read_all() {
  const uint64_t all = model_.geometry().cells();
  for (uint64_t cell = 0; cell < all; cell += 300)
    read({cell, std::min<uint64_t>(300, all - cell)});
}

void Client::ended(const char* what, const Status& status) {
  ++world_.tally.operations;
  scheduler().note("%s ends: %s", what, status.ok() ? "ok" : status.text().c_str());
  const Duration took = scheduler().now() - started_ - (scheduler().stopped_time() - stopped_);
  const Duration unit =
      config_.retry_time + 3 * config_.origin.timeout + config_.origin.connect_timeout;
  // Disks that share too few connections wait for each other's attempts.
  const unsigned connections = std::min(config_.connections, world_.plan.server.max_connections);
  const auto turns = static_cast<int>((world_.plan.server.disks + connections - 1) / connections);
  if (took > 12 * turns * unit + 10min)
    fail(std::string(what) + " took " +
         std::to_string(std::chrono::duration<double>(took).count()) + " s");
  if (status.ok()) {
    failures_ = 0;
    return;
  }
  ++failures_;
  ++world_.tally.failed;
  world_.judge_failure(what, disk_, status, config_);
  // Whatever the server does, the spool takes it.
  if (config_.spool_local && strcmp(what, "flush") == 0 && !world_.plan.claims &&
      !world_.plan.disk_fills && !world_.plan.disk_fails && !world_.plan.denies)
    fail("a flush that the spool satisfies fails: " + status.text());
  if (world_.faults() == 0 && !world_.plan.disk_fills && !world_.plan.disk_fails &&
      !world_.plan.denies && world_.plan.outages == 0 && !world_.plan.freezes)
    fail(std::string(what) + " fails although nothing has gone wrong: " + status.text());
}

// --- Trouble --------------------------------------------------------------

void make_trouble(World& world, std::shared_ptr<bool> over) {
  const Plan& plan = world.plan;
  Random& random = scheduler().random();
  if (*over) return;
  const auto longest = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(plan.longest_outage).count());
  const Duration time = std::chrono::milliseconds(1 + random.below(longest));
  if (plan.claims && random.percent(30)) {
    world.ledgers.go_away(std::min<Duration>(time, 2min));
  } else if (plan.claims && random.percent(40)) {
    scheduler().note("the process is stopped");
    scheduler().stop_process(std::min<Duration>(time, 2min));
  } else if (plan.stops && random.percent(30)) {
    scheduler().note("the process is stopped");
    scheduler().stop_process(time);
  } else if (plan.tokens && random.percent(30)) {
    world.tokens.take_back();
  } else if (plan.tokens && random.percent(30)) {
    world.tokens.go_away(time, random.percent(30));
  } else if (plan.denies && random.percent(20)) {
    world.server.deny(0, time);
  } else if (plan.freezes && plan.server.disks > 1 && random.percent(50)) {
    // The others go on meanwhile.
    world.server.freeze_disk(1, time);
  } else if (plan.freezes && random.percent(50)) {
    world.server.freeze(time);
  } else if (plan.disk_fills && random.percent(50)) {
    world.disk->set_full(true);
    scheduler().at(scheduler().now() + time, [&world] { world.disk->set_full(false); });
  } else if (plan.disk_fails && random.percent(40)) {
    world.disk->fail_soon();
  } else if (plan.disk_fails && random.percent(60)) {
    scheduler().note("the disk hangs");
    world.disk->hang_until(scheduler().now() + time);
  } else {
    world.server.go_away(time, random.percent(30));
  }
}

void plan_trouble(World& world, std::shared_ptr<bool> over) {
  for (unsigned i = 0; i < world.plan.outages; ++i) {
    const auto when =
        std::chrono::milliseconds(scheduler().random().below(i == 0 ? 2000 : 60000));
    scheduler().at(scheduler().now() + when, [&world, over] { make_trouble(world, over); });
  }
}

// The rival looks every few seconds.
void plan_rival(World& world, std::shared_ptr<bool> over) {
  const auto when = std::chrono::milliseconds(1 + scheduler().random().below(8000));
  scheduler().at(scheduler().now() + when, [&world, over] {
    if (*over) return;
    world.ledgers.rival_tries(std::chrono::seconds(1 + scheduler().random().below(100)));
    plan_rival(world, over);
  });
}

// --- Lives ----------------------------------------------------------------

http::Connector connector_of(World& world) {
  return [upload = world.server.connector(), login = world.tokens.connector()](
             std::shared_ptr<const http::Origin> origin, ConnectionId id,
             http::ConnectionEvents events) {
    return origin->url.host == "login" ? login(std::move(origin), id, std::move(events))
                                       : upload(std::move(origin), id, std::move(events));
  };
}

Environment environment_of(World& world) {
  return {world.clock, connector_of(world),
          [&world](const std::string&, const journal::SpoolName& name) {
            return world.disk->take(name, world.clock);
          },
          [](Duration time) {
            // Seldom, since each time costs steps.
            scheduler().sleep(std::max<Duration>(time, 20s));
            return false;
          },
          [&world](const Config&, const std::string& hash) { return world.ledgers.open(hash); }};
}

void stop_checking() {
  scheduler().at_unlock = nullptr;
  scheduler().at_rest = nullptr;
}

// What the clients of one disk do. Returns whether all of it is flushed in the end.
bool use_disk(World& world, unsigned number, upload::Disk& disk, const Config& config,
              unsigned operations) {
  volume::Volume& volume = disk.volume();
  if (Status status = volume.wait_for_leftovers(); !status.ok()) {
    scheduler().note("the disk is not opened: %s", status.text().c_str());
    world.judge_failure("opening the disk", number, status, config);
    return false;
  }
  if (config.access.validate_session) {
    const Status status = volume.validate();
    scheduler().note("validated: %s", status.ok() ? "ok" : status.text().c_str());
    if (!status.ok()) world.judge_failure("a client's connecting", number, status, config);
  }
  std::vector<Thread> threads;
  std::vector<std::unique_ptr<Client>> clients;
  for (unsigned i = 0; i < world.plan.clients; ++i) {
    clients.push_back(std::make_unique<Client>(world, number, volume, config, i));
    threads.emplace_back(
        "client", [client = clients.back().get(), operations] { client->run(operations); });
  }
  for (Thread& thread : threads) thread.join();
  Client last(world, number, volume, config, 100);
  if (operations == 0) last.read_all();
  return last.flush();
}

// What the plugin's process does in a life that is not killed.
void live(World& world, const Config& config, unsigned operations, bool& all_flushed) {
  Instance instance(config, environment_of(world));
  if (Status status = instance.discover(); !status.ok()) {
    world.not_started = status.text();
    return;
  }
  if (Status status = instance.start(); !status.ok()) {
    world.not_started = status.text();
    return;
  }
  const auto& disks = instance.disks();
  scheduler().at_rest = [&disks] {
    for (const auto& disk : disks) disk->volume().check_waits();
  };
  if (world.plan.checks)
    scheduler().at_unlock = [&disks](const Mutex& mutex) {
      for (const auto& disk : disks) disk->volume().check(mutex);
    };
  world.has_failed = false;
  std::vector<Thread> threads;
  unsigned flushed = 0;
  for (unsigned number = 1; number < disks.size(); ++number)
    threads.emplace_back("disk", [&, number] {
      if (use_disk(world, number, *disks[number], config, operations)) ++flushed;
    });
  if (use_disk(world, 0, *disks[0], config, operations)) ++flushed;
  for (Thread& thread : threads) thread.join();
  all_flushed = flushed == disks.size();
  instance.stop();
  stop_checking();
  scheduler().note("stopped");
}

void lose_power(World& world) {
  world.disk->lose_power();
  world.may_be_damaged = world.may_be_damaged || world.disk->has_lied();
}

// False: it was killed.
bool run_life(World& world, const Config& config, unsigned operations,
              std::optional<uint64_t> kill_after) {
  auto over = std::make_shared<bool>(false);
  if (operations > 0) plan_trouble(world, over);
  if (operations > 0 && world.plan.claims) plan_rival(world, over);
  bool all_flushed = false;
  world.not_started.clear();
  world.tokens.one_at_a_time = config.access.reuse_session;
  world.server.renew_tickets();
  scheduler().spawn("main", [&] { live(world, config, operations, all_flushed); });
  const bool ended = scheduler().run(kill_after);
  *over = true;
  if (ended) {
    require(world.server.open_connections() + world.tokens.open_connections() == 0,
            "connections are left open");
    require(!world.disk->in_use(), "a spool or its lock is left open");
    require(world.server.probe_files() == 0 || world.faults() + world.tally.kills > 0 ||
                world.plan.outages > 0,
            "the file that probed the server is left there");
    // What was acknowledged and not flushed may be lost with the process.
    if (!all_flushed)
      for (const auto& model : world.models) model->crashed();
    if (all_flushed && !config.spool_local) check_stable_images(world, "after a life");
    if (!world.not_started.empty())
      scheduler().note("did not start: %s", world.not_started.c_str());
    if (scheduler().random().percent(10)) lose_power(world);
    return true;
  }
  stop_checking();
  ++world.tally.kills;
  world.server.lose_all_connections(config.origin.timeout);
  world.tokens.lose_all_connections();
  world.disk->killed();
  if (scheduler().random().percent(30)) lose_power(world);
  for (const auto& model : world.models) model->crashed();
  return false;
}

void pass_time(Duration time) { scheduler().stop_process(time); }

// As who writes to the disk must where nothing knows of late copies.
void wait_for_late(World& world) {
  while (!world.server.well_since()) pass_time(1min);
  pass_time(world.plan.timeout);
}

void run_plan(World& world, Random& random) {
  const Plan& plan = world.plan;
  for (unsigned life = 0; life < plan.lives; ++life) {
    const Config config = draw_config(random, plan, world.disk->has_stores());
    // What the lives before had under way only a spool can tell.
    if (life > 0 && config.spool.empty() && plan.mode != Mode::kReplay) wait_for_late(world);
    world.server.behaviour = plan.trouble;
    world.tokens.fails = plan.trouble.refused;
    world.tokens.latency = world.ledgers.latency = plan.trouble.latency;
    world.ledgers.lost = plan.trouble.lost;
    std::optional<uint64_t> kill_after;
    if (random.percent(plan.kills_percent))
      kill_after = random.below(200 + 60 * plan.clients * plan.operations);
    const bool killed = !run_life(world, config, plan.operations, kill_after);
    world.latest_timeout = std::max(world.latest_timeout, config.origin.timeout);
    // Nobody but a spool can tell the next life what a killed one had under way. The user does
    // what the plugin says, or what the manual says of one that can't say anything any more.
    const bool may_not_know = killed && config.spool.empty();
    if (std::exchange(world.told_to_wait, false) || may_not_know) wait_for_late(world);
    if (random.percent(30)) pass_time(std::chrono::seconds(random.below(100)));
  }
  // The last: all is well, and all that is left arrives.
  world.server.behaviour = Behaviour();
  world.tokens.fails = world.ledgers.lost = 0;
  world.disk->mend();
  while (!world.server.well_since() || !world.tokens.well_since()) pass_time(10min);
  Config config = draw_config(random, plan, true);
  config.retry_time = 300s;
  bool flushed = false;
  world.not_started.clear();
  world.tokens.one_at_a_time = config.access.reuse_session;
  world.server.renew_tickets();
  scheduler().spawn("main", [&] { live(world, config, 0, flushed); });
  (void)scheduler().run();
  if (world.may_be_damaged && world.not_started.find("is damaged") != std::string::npos) {
    scheduler().note("refused: %s", world.not_started.c_str());
    return;
  }
  if (!world.not_started.empty()) fail("the last life does not start: " + world.not_started);
  require(flushed, "the last life's flush fails");
  require(world.disk->rows() == 0, "the last life leaves rows in the spool");
  // Whatever was on its way has come by now.
  pass_time(world.latest_timeout + 10min);
  check_stable_images(world, "at the end");
}

}  // namespace

const char* name_of(Mode mode) {
  switch (mode) {
    case Mode::kOff: return "off";
    case Mode::kReplay: return "replay";
    case Mode::kSpool: return "spool";
    case Mode::kLocal: return "local";
  }
  return "?";
}

std::optional<Mode> mode_named(const std::string& name) {
  for (const Mode mode : kModes)
    if (name == name_of(mode)) return mode;
  return std::nullopt;
}

void Tally::operator+=(const Tally& other) {
  schedules += other.schedules;
  operations += other.operations;
  failed += other.failed;
  flushes += other.flushes;
  faults += other.faults;
  kills += other.kills;
  steps += other.steps;
  hash += other.hash;  // workers end in any order
}

Tally run_schedule(uint64_t seed, Mode mode, bool trace) {
  Random random(seed, 2);
  Scheduler one(seed, Scheduler::Limits());
  one.print_trace = trace;
  if (trace) setvbuf(stdout, nullptr, _IOLBF, 0);  // all of it, where an assertion ends it
  static const auto line = [](const char* text) {
    scheduler().note("log: %s", text);
    const auto well = the_world->server.well_since();
    const auto can_log_in = the_world->tokens.well_since();
    if (strstr(text, "every request fails from now on") != nullptr &&
        (!well || !can_log_in || scheduler().now() - std::max(*well, *can_log_in) < 150s))
      the_world->has_failed = true;
    if (strstr(text, "do not write to the disk again before") != nullptr)
      the_world->told_to_wait = true;
  };
  constexpr log::Sink kLine = [](const char* text) { line(text); };
  log::set_sinks({kLine, kLine, kLine});
  Plan plan = draw_plan(random, mode);
  one.stalls = pick(random, {0U, 0U, 20U, 200U});
  // A keeper that gets no processor for seconds is too late for a ticket, whatever it does.
  if (plan.server.ticket_life > Duration::zero()) one.stalls = 0;
  plan.checks = seed / std::size(kModes) % 8 == 0;
  World world(plan, seed);
  the_world = &world;
  run_plan(world, random);
  Tally tally = world.tally;
  tally.schedules = 1;
  tally.faults = world.faults();
  tally.steps = one.steps();
  tally.hash = one.trace_hash();
  return tally;
}

}  // namespace upload::sim
