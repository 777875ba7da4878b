// SPDX-License-Identifier: BSD-3-Clause
//
// A child process with two pipes, read until both end, or until it has had enough time.

#include "login/token_script.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>
#include <utility>

#include "base/format.h"
#include "base/redact.h"

namespace upload::login {

namespace {

// A token, a number, and blanks.
constexpr size_t kMostPrinted = kLongestToken + 100;
// Of its complaints: the end is shown.
constexpr size_t kMostComplaints = size_t{16} << 10;
// Between two looks at whether the process that has closed its output has ended.
constexpr Duration kLook = std::chrono::milliseconds(10);
// What has been killed takes as long at most; then it stays a zombie.
constexpr Duration kDies = std::chrono::seconds(5);

class Pipe {
 public:
  Pipe() { made_ = pipe2(fds_.data(), O_CLOEXEC) == 0; }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  [[nodiscard]] bool made() const { return made_; }
  [[nodiscard]] int end(size_t which) const { return fds_[which]; }
  void close_end(size_t which) {
    if (fds_[which] >= 0) close(std::exchange(fds_[which], -1));
  }

 private:
  std::array<int, 2> fds_ = {-1, -1};
  bool made_ = false;
};

// /bin/sh -c COMMAND, in a process group of its own, with no input and no other descriptor
// than the pipes' ends. The process; or less than 0: errno tells why there is none.
pid_t start(const std::string& command, const std::string& directory, const Pipe& out,
            const Pipe& err) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.end(1), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err.end(1), STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  if (!directory.empty()) posix_spawn_file_actions_addchdir_np(&actions, directory.c_str());
  // nbdkit's threads block signals, and it ignores SIGPIPE.
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(
      &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const char* const words[] = {"sh", "-c", command.c_str(), nullptr};
  pid_t process = -1;
  const int error = posix_spawn(&process, "/bin/sh", &actions, &attributes,
                                const_cast<char* const*>(words), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  errno = error;
  return error == 0 ? process : -1;
}

// Takes what there is. False: the other end is closed.
bool take(int fd, std::string& text) {
  char buffer[4096];
  const ssize_t n = read(fd, buffer, sizeof buffer);
  if (n > 0) text.append(buffer, static_cast<size_t>(n));
  return n > 0 || (n < 0 && errno == EINTR);
}

// Reads both until they are closed. False: the time is over, or there is too much.
bool read_both(Pipe& out, Pipe& err, TimePoint until, std::string& printed,
               std::string& complaints) {
  while (out.end(0) >= 0 || err.end(0) >= 0) {
    const Duration left = until - std::chrono::steady_clock::now();
    if (left <= Duration::zero()) return false;
    // A descriptor that is negative is not looked at.
    std::array<pollfd, 2> fds = {pollfd{out.end(0), POLLIN, 0}, pollfd{err.end(0), POLLIN, 0}};
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(left).count() + 1;
    if (poll(fds.data(), fds.size(), static_cast<int>(std::min<long long>(ms, 60000))) < 0)
      continue;
    if (fds[0].revents != 0 && !take(out.end(0), printed)) out.close_end(0);
    if (fds[1].revents != 0 && !take(err.end(0), complaints)) err.close_end(0);
    if (printed.size() > kMostPrinted) return false;
    if (complaints.size() > kMostComplaints)
      complaints.erase(0, complaints.size() - kMostComplaints);
  }
  return true;
}

// Has it ended by then? It stays to be reaped, so that its number is nobody else's.
bool ends(pid_t process, TimePoint until) {
  for (;;) {
    siginfo_t info = {};
    const int result =
        waitid(P_PID, static_cast<id_t>(process), &info, WEXITED | WNOHANG | WNOWAIT);
    if (result == 0 && info.si_pid == process) return true;
    // Whoever has had nbdkit ignore SIGCHLD does not want to know.
    if (result != 0 && errno != EINTR) return true;
    const TimePoint now = std::chrono::steady_clock::now();
    if (now >= until) return false;
    const auto pause = std::min<Duration>(kLook, until - now);
    const timespec time = {0, static_cast<long>(pause.count())};
    nanosleep(&time, nullptr);
  }
}

// How it has ended, as of waitpid(2).
int reap(pid_t process) {
  int status = 0;
  waitpid(process, &status, WNOHANG);
  return status;
}

std::string last_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  const size_t end = text.rfind('\n');
  return end == text.npos ? text : text.substr(end + 1);
}

Status failed(std::string why, const std::string& complaints) {
  const std::string complaint = excerpt(last_line(complaints));
  if (!complaint.empty()) why += ": " + complaint;
  return {Kind::kLogin, "token-script: " + why};
}

// Whatever may be a token in it is a secret from then on; the first line is.
void register_lines(const std::string& printed) {
  size_t start = 0;
  for (int number = 0; number < 3 && start < printed.size(); ++number) {
    const size_t end = std::min(printed.find_first_of("\r\n", start), printed.size());
    const std::string_view line = std::string_view(printed).substr(start, end - start);
    if (line.size() <= kLongestToken && (number == 0 || line.size() >= kShortestSecret))
      register_passing_secret(line);
    start = end + 1;
  }
}

std::string working_directory() {
  char* const name = get_current_dir_name();
  if (name == nullptr) return "";
  std::string copy = name;
  free(name);
  return copy;
}

}  // namespace

Result<Token> read_token_lines(const std::string& printed) {
  std::array<std::string, 3> lines;
  size_t number = 0;
  for (const char c : printed) {
    if (c == '\n')
      number = std::min(number + 1, lines.size() - 1);
    else if (c != '\r')
      lines[number] += c;
  }
  Token token;
  token.text = lines[0];
  if (token.text.empty()) return Status(Kind::kLogin, "token-script: it has printed no token");
  if (Status status = check_token(token.text); !status.ok())
    return status.while_doing("token-script: its first line");
  if (!lines[2].empty())
    return Status(Kind::kLogin, "token-script: it has printed more than two lines");
  if (lines[1].empty()) return token;
  const Result<Duration> life = parse_life(lines[1]);
  if (!life.ok()) return life.status().while_doing("token-script: its second line");
  token.life = life.value();
  return token;
}

TokenScript::TokenScript(std::string command, Duration timeout)
    : command_(std::move(command)), timeout_(timeout), directory_(working_directory()) {}

Result<Token> TokenScript::log_in() {
  Pipe out;
  Pipe err;
  if (!out.made() || !err.made())
    return failed(std::string("cannot be run: ") + strerror(errno), "");
  const pid_t process = start(command_, directory_, out, err);
  if (process < 0) return failed(std::string("cannot be run: ") + strerror(errno), "");
  if (!begin(process)) kill(-process, SIGKILL);
  out.close_end(1);
  err.close_end(1);
  const TimePoint until = std::chrono::steady_clock::now() + timeout_;
  std::string printed;
  std::string complaints;
  const bool ended = read_both(out, err, until, printed, complaints) && ends(process, until);
  const bool stopped = end();
  register_lines(printed);
  if (!ended) {
    kill(-process, SIGKILL);
    kill(process, SIGKILL);  // should it have left its group
    (void)ends(process, std::chrono::steady_clock::now() + kDies);
  }
  const int status = reap(process);
  if (stopped) return failed("the plugin is shutting down", "");
  if (printed.size() > kMostPrinted)
    return failed(format("it has printed more than %zu bytes", kMostPrinted), complaints);
  if (!ended)
    return failed(format("it has not ended within %lld seconds (timeout=)", seconds(timeout_)),
                  complaints);
  if (WIFSIGNALED(status))
    return failed(format("it was ended by signal %d", WTERMSIG(status)), complaints);
  if (WEXITSTATUS(status) != 0)
    return failed(format("it has ended with status %d", WEXITSTATUS(status)), complaints);
  return read_token_lines(printed);
}

// False: stop() has come first.
bool TokenScript::begin(pid_t process) {
  MutexLock lock(mutex_);
  process_ = process;
  return !stopped_;
}

// True: stop() has come meanwhile.
bool TokenScript::end() {
  MutexLock lock(mutex_);
  process_ = 0;
  return stopped_;
}

void TokenScript::stop() {
  MutexLock lock(mutex_);
  stopped_ = true;
  if (process_ <= 0) return;
  kill(-process_, SIGKILL);
  kill(process_, SIGKILL);
}

}  // namespace upload::login
