// SPDX-License-Identifier: BSD-3-Clause
//
// The spool is a real one: SQLite, in the thread that a Spool has for it, is called
// from a fiber like anything else. Others run where it syncs.
//
// In one script of four what holds between the parts of a volume is asserted at every
// unlock, which takes longer than all else.

#include "script/setup.h"

#include "journal/spool_file.h"
#include "journal/sqlite_store.h"
#include "unit/disk.h"

namespace upload::script {

using namespace std::chrono_literals;

namespace {

std::shared_ptr<journal::Spool> open_spool(const Settings& settings, Clock& clock) {
  auto file = journal::SpoolFile::lock(settings.spool, {"host:443", "/disk"}, clock);
  REQUIRE(file.ok());
  auto store = journal::SqliteStore::open(
      {file.value()->path(), "disk", settings.blocks * kBlock, &clock}, true);
  INFO(store.status().text());
  REQUIRE(store.ok());
  auto rows = store.value()->rows();
  REQUIRE(rows.ok());
  return std::make_shared<journal::Spool>(std::move(file.value()), std::move(store.value()),
                                          std::move(rows.value()), clock, 300s);
}

volume::VolumeOptions options_of(const Settings& settings, Clock& clock) {
  volume::VolumeOptions options = testing::disk_options(settings.blocks);
  options.capabilities.traits.durability = settings.durability;
  options.capabilities.can_zero = settings.can_zero;
  options.capabilities.can_extents = settings.can_extents;
  options.limits.zero_is_data = !settings.can_zero;
  if (settings.server_block > 0) options.limits.block = settings.server_block * kBlock;
  options.capabilities.traits.persists = settings.persists;
  options.replay = settings.replay;
  options.write_back = settings.write_back;

  options.retry_time = settings.retry_time;
  options.late = settings.late;
  options.denied_wait = settings.denied_wait;
  options.fence = settings.fence;
  if (settings.spool.empty()) return options;
  options.spool = open_spool(settings, clock);
  options.spool_size = settings.spool_size;
  options.spool_local = settings.spool_local;
  return options;
}

}  // namespace

Setup::Setup(const Settings& settings)
    : server(settings.blocks * kBlock),
      pool({settings.connections, 10s, 60s}, server.factory(), clock) {
  if (settings.away) server.away();
  volume::VolumeOptions options = options_of(settings, clock);
  if (options.spool) path = options.spool->path();
  volume = std::make_unique<volume::Volume>(std::move(options), pool, clock, stats);
  sim::scheduler().at_rest = [this] { volume->check_waits(); };
  if (sim::scheduler().random().percent(25))
    sim::scheduler().at_unlock = [this](const Mutex& mutex) { volume->check(mutex); };
}

Setup::~Setup() {
  server.release_all();
  sim::scheduler().at_unlock = nullptr;
  sim::scheduler().at_rest = nullptr;
  testing::end(*volume, pool);
}

Status Setup::write(uint64_t block, char fill, uint64_t count, bool fua) {
  const std::vector<char> data(count * kBlock, fill);
  return volume->write({block * kBlock, data.size()}, data.data(), fua);
}

Status Setup::zero(uint64_t block, uint64_t count, bool fua) {
  return volume->zero({block * kBlock, count * kBlock}, fua);
}

std::string Setup::read(uint64_t block, uint64_t count) {
  std::string data(count * kBlock, '?');
  const Status status = volume->read({block * kBlock, data.size()}, data.data());
  if (!status.ok()) return status.text();
  std::string blocks;
  for (uint64_t i = 0; i < count; ++i) blocks += data[i * kBlock];
  return blocks;
}

Task<Status> Setup::start_write(uint64_t block, char fill, uint64_t count, bool fua) {
  return start([=, this] { return write(block, fill, count, fua); });
}

Task<Status> Setup::start_flush() {
  return start([this] { return flush(); });
}

void Setup::settle() { volume->wait_for_spool(300s); }

}  // namespace upload::script
