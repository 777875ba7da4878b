// SPDX-License-Identifier: BSD-3-Clause
//
// Why a program was ended becomes the last thing that it has said.

#include "look.h"

#include <cstdint>
#include <memory>
#include <utility>

#include "process.h"
#include "said.h"

namespace nbdupload {

namespace {

// An image of 60 TiB that has a table with 8 bytes for each MiB needs 500 MiB.
constexpr uint64_t kLookMemory = uint64_t{2} << 30;
// A program that was told to end, and does not, is killed after that.
constexpr std::chrono::seconds kEndTime{5};
constexpr size_t kMostErrorLines = 1000;

}  // namespace

std::string too_slow(const std::string& program) {
  return program + " has not answered in " + std::to_string(kLookTime.count()) + " seconds";
}

std::string Looked::last_words() const { return nbdupload::last_words(errors); }

Or<Looked> look(EventLoop& loop, std::vector<std::string> words, std::vector<int> inherited,
                std::chrono::seconds time) {
  Looked looked;
  Process::Setup setup;
  setup.words = std::move(words);
  setup.memory = kLookMemory;
  setup.inherited = std::move(inherited);
  setup.output = &looked.output;
  setup.on_error_line = [&](const std::string& line) {
    if (looked.errors.size() < kMostErrorLines) looked.errors.push_back(line);
  };
  auto started = Process::start(loop, std::move(setup));
  if (!started.ok()) return started.failure();
  Process& process = *started.value();
  const EventLoop::End end =
      loop.run([&] { return process.ended(); }, EventLoop::Clock::now() + time);
  if (end == EventLoop::End::kLate) {
    if (process.stop(kEndTime) == EventLoop::End::kStopped) return Outcome::stopped();
    looked.errors.push_back(too_slow(process.name()));
    looked.status = 128 + SIGKILL;
    return looked;
  }
  if (end == EventLoop::End::kStopped) return Outcome::stopped();
  looked.status = process.status();
  if (looked.was_ended())
    looked.errors.push_back(process.name() + " was ended by " + signal_name(looked.status - 128) +
                            "; it may use " + std::to_string(kLookMemory >> 30) +
                            " GiB of memory");
  return looked;
}

}  // namespace nbdupload
