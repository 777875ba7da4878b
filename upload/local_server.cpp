// SPDX-License-Identifier: BSD-3-Clause
//
// It has a session of its own, so that a terminal's Ctrl-C reaches nbdupload alone.

#include "local_server.h"

#include <sys/stat.h>

#include <utility>

#include "look.h"
#include "said.h"

namespace nbdupload {

namespace {

constexpr size_t kMostLines = 1000;

}  // namespace

bool has_content(const std::string& file) {
  struct stat found {};
  return stat(file.c_str(), &found) == 0 && found.st_size > 0;
}

LocalServer::LocalServer(EventLoop& loop, std::vector<std::string> words, std::string pid_file)
    : loop_(loop), words_(std::move(words)), pid_file_(std::move(pid_file)) {}

Outcome LocalServer::start(std::vector<int> inherited) {
  Process::Setup setup;
  setup.words = words_;
  setup.memory = kCopyMemory;
  setup.own_session = true;
  setup.inherited = std::move(inherited);
  setup.on_error_line = [this](const std::string& line) {
    if (said_.size() < kMostLines) said_.push_back(line);
  };
  auto started = Process::start(loop_, std::move(setup));
  if (!started.ok()) return started.failure();
  process_ = std::move(started.value());
  const EventLoop::End end =
      loop_.run([&] { return has_content(pid_file_) || process_->ended(); },
                EventLoop::Clock::now() + kLookTime);
  if (end == EventLoop::End::kStopped) return Outcome::stopped();
  if (end == EventLoop::End::kLate) return Outcome::failed(too_slow(process_->name()));
  return has_content(pid_file_) ? Outcome() : Outcome::failed(nbdupload::last_words(said_));
}

std::string LocalServer::last_words() const {
  return said_.empty() ? "" : nbdupload::last_words(said_);
}

void LocalServer::stop(std::chrono::seconds patience) {
  if (process_ != nullptr) (void)process_->stop(patience);
  process_.reset();
}

}  // namespace nbdupload
