// SPDX-License-Identifier: BSD-3-Clause
//
// The end of a process is told by its pidfd, which can't be mistaken for that of another
// one. By then all that it has printed is in its pipes; they are read to where they are
// empty, not to their ends, since a grandchild may hold them open.

#include "process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "trampoline.h"

// glibc 2.36 has it without this.
extern "C" {
#include <sys/pidfd.h>
}

namespace nbdupload {

namespace {

// Of what a program prints, in bytes: more than any image's description has.
constexpr size_t kMostOutput = size_t{64} << 20;

// Reading end first. Both are closed in what is started.
bool make_pipe(FileDescriptor& from, FileDescriptor& to) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  from = FileDescriptor(ends[0]);
  to = FileDescriptor(ends[1]);
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return true;
}

// What posix_spawn(3) is to do besides, freed at the end.
struct SpawnPlan {
  SpawnPlan() {
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
};

void set_attributes(SpawnPlan& plan, const sigset_t& mask, bool own_session) {
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigdefault(&plan.attributes, &defaults);
  posix_spawnattr_setsigmask(&plan.attributes, &mask);
  short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
  if (own_session) flags |= POSIX_SPAWN_SETSID;
  posix_spawnattr_setflags(&plan.attributes, flags);
}

}  // namespace

std::string signal_name(int signal) {
  const char* name = sigabbrev_np(signal);
  return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(signal);
}

bool is_in_path(const std::string& program) {
  const char* path = getenv("PATH");
  std::string_view rest = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
  for (bool more = true; more;) {
    const size_t end = rest.find(':');
    const std::string directory(rest.substr(0, end));
    if (access(((directory.empty() ? "." : directory) + "/" + program).c_str(), X_OK) == 0)
      return true;
    more = end != std::string_view::npos;
    rest.remove_prefix(more ? end + 1 : rest.size());
  }
  return false;
}

Process::Process(EventLoop& loop, Setup setup)
    : loop_(loop), setup_(std::move(setup)), errors_(setup_.on_error_line) {}

Or<std::unique_ptr<Process>> Process::start(EventLoop& loop, Setup setup) {
  std::unique_ptr<Process> process(new Process(loop, std::move(setup)));
  if (Outcome outcome = process->spawn(); !outcome.ok()) return outcome;
  return process;
}

Outcome Process::spawn() {
  FileDescriptor output, errors;
  const auto failure = [&](int error) {
    return Outcome::failed(name() + " can't be started: " + strerror(error));
  };
  if (!make_pipe(error_pipe_, errors)) return failure(errno);
  if (setup_.output != nullptr && !make_pipe(output_pipe_, output)) return failure(errno);

  SpawnPlan plan;
  set_attributes(plan, loop_.original_mask(), setup_.own_session);
  posix_spawn_file_actions_addopen(&plan.files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (output.is_open())
    posix_spawn_file_actions_adddup2(&plan.files, output.get(), STDOUT_FILENO);
  else
    posix_spawn_file_actions_addopen(&plan.files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&plan.files, errors.get(), STDERR_FILENO);
  // To itself: it is not closed then.
  for (const int fd : setup_.inherited) posix_spawn_file_actions_adddup2(&plan.files, fd, fd);

  std::vector<std::string> words = trampoline_words(setup_.memory, setup_.words);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const int error = posix_spawn(&pid_, "/proc/self/exe", &plan.files, &plan.attributes,
                                arguments.data(), environ);
  if (error != 0) {
    pid_ = -1;
    return failure(error);
  }
  pidfd_ = FileDescriptor(pidfd_open(pid_, 0));
  if (!pidfd_.is_open()) return failure(errno);
  fcntl(pidfd_.get(), F_SETFD, FD_CLOEXEC);
  loop_.watch(pidfd_.get(), [this] { reap(); });
  loop_.watch(error_pipe_.get(), [this] { drain_errors(); });
  if (output_pipe_.is_open()) loop_.watch(output_pipe_.get(), [this] { drain_output(); });
  return {};
}

Process::~Process() {
  for (const FileDescriptor* fd : {&pidfd_, &output_pipe_, &error_pipe_})
    if (fd->is_open()) loop_.unwatch(fd->get());
  if (pid_ < 0 || ended_) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void Process::drain(FileDescriptor& pipe, const std::function<void(std::string_view)>& take) {
  std::array<char, 16384> buffer;
  // More than a pipe holds. Who prints without end must not keep the loop from the rest.
  for (int reads = 0; reads < 16 && pipe.is_open(); ++reads) {
    const ssize_t got = read(pipe.get(), buffer.data(), buffer.size());
    if (got > 0) {
      take({buffer.data(), static_cast<size_t>(got)});
    } else if (got < 0 && errno == EINTR) {
      continue;
    } else {
      if (got < 0 && errno == EAGAIN) return;
      loop_.unwatch(pipe.get());
      pipe.reset();
    }
  }
}

void Process::drain_output() {
  drain(output_pipe_, [this](std::string_view text) {
    std::string& output = *setup_.output;
    output += text.substr(0, kMostOutput - std::min(kMostOutput, output.size()));
  });
}

void Process::drain_errors() {
  drain(error_pipe_, [this](std::string_view text) { errors_.take(text); });
}

void Process::reap() {
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return;
  status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  loop_.unwatch(pidfd_.get());
  pidfd_.reset();
  drain_output();
  drain_errors();
  errors_.finish();
  ended_ = true;
}

void Process::send(int signal) const {
  if (!ended_ && pid_ >= 0) pidfd_send_signal(pidfd_.get(), signal, nullptr, 0);
}

EventLoop::End Process::stop(std::chrono::seconds patience) {
  const auto has_ended = [this] { return ended_; };
  send(SIGTERM);
  const EventLoop::End end = loop_.run(has_ended, EventLoop::Clock::now() + patience);
  if (end != EventLoop::End::kLate) return end;
  send(SIGKILL);
  return loop_.run(has_ended);
}

}  // namespace nbdupload
