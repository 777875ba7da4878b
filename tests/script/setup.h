// SPDX-License-Identifier: BSD-3-Clause
//
// Setup: a volume on a scripted server, with whatever it is to have. For fibers.

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/stats.h"
#include "script/script.h"
#include "script/server.h"
#include "upstream/pool.h"
#include "volume/volume.h"

namespace upload::script {

struct Settings {
  uint64_t blocks = 4096;
  unsigned connections = 1;
  target::Durability durability = target::Durability::kOnFlush;
  bool can_zero = true;
  bool can_extents = false;
  uint64_t server_block = 0;  // as target::Traits::alignment, in blocks; 0: one byte
  bool persists = false;
  uint64_t replay = 0;  // as VolumeOptions has them, from here on
  bool write_back = false;

  Duration retry_time = std::chrono::seconds(300);
  Duration late = std::chrono::seconds(60);
  Duration denied_wait{0};
  std::string spool{};  // its directory; empty: none
  uint64_t spool_size = 1 << 20;
  bool spool_local = false;
  const Fence* fence = nullptr;
  bool away = false;  // the server, from the start on
};

class Setup {
 public:
  explicit Setup(const Settings& settings);
  ~Setup();
  Setup(const Setup&) = delete;
  Setup& operator=(const Setup&) = delete;

  Status write(uint64_t block, char fill = 'a', uint64_t count = 1, bool fua = false);
  Status zero(uint64_t block, uint64_t count = 1, bool fua = false);
  Status flush() { return volume->flush(); }
  // The first byte of each block, or the error.
  std::string read(uint64_t block, uint64_t count = 1);

  [[nodiscard]] Task<Status> start_write(uint64_t block, char fill = 'a', uint64_t count = 1,
                                         bool fua = false);
  [[nodiscard]] Task<Status> start_flush();
  // Until the spool is empty, and the volume direct.
  void settle();

  [[nodiscard]] TimePoint now() const { return clock.now(); }

  sim::SimClock clock;
  Server server;
  Stats stats;
  upstream::Pool pool;
  std::string path;  // of the spool's file
  std::unique_ptr<volume::Volume> volume;
};

}  // namespace upload::script
