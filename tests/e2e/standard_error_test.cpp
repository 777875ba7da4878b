// SPDX-License-Identifier: BSD-3-Clause
//
// A standard error that is full, and that nobody reads: what parents make who start
// nbdkit with a pipe and look into it later.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "catch.h"
#include "fixture/nbdkit.h"
#include "server.h"

using namespace upload::fixture;
using namespace upload::testserver;

namespace {

constexpr uint64_t kSize = 64 << 20;

// The smallest pipe that there is.
class Pipe {
 public:
  Pipe() {
    REQUIRE(pipe2(ends_.data(), O_CLOEXEC) == 0);
    REQUIRE(fcntl(ends_[1], F_SETPIPE_SZ, 4096) == 4096);
  }
  ~Pipe() {
    for (const int end : ends_) close(end);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  [[nodiscard]] int write_end() const { return ends_[1]; }

  // What is nonblocking is a description of the pipe's own, not the one that nbdkit has.
  void fill() const {
    const std::string name = "/proc/self/fd/" + std::to_string(ends_[1]);
    const int fd = open(name.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    REQUIRE(fd >= 0);
    const char byte = '\n';
    while (write(fd, &byte, 1) == 1) {
    }
    close(fd);
  }

  // Reads until `part` comes, or for a minute.
  [[nodiscard]] std::string read_until(const std::string& part) const {
    std::string text;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    const std::string name = "/proc/self/fd/" + std::to_string(ends_[0]);
    const int fd = open(name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    REQUIRE(fd >= 0);
    while (text.find(part) == text.npos && std::chrono::steady_clock::now() < limit) {
      std::array<char, 4096> buffer;
      const ssize_t n = read(fd, buffer.data(), buffer.size());
      if (n > 0)
        text.append(buffer.data(), static_cast<size_t>(n));
      else
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    close(fd);
    return text;
  }

 private:
  std::array<int, 2> ends_ = {-1, -1};
};

struct Fixture {
  Fixture() {
    server.start();
    TicketOptions ticket;
    ticket.size_bytes = kSize;
    server.add_ticket(ticket);
  }
  std::vector<std::string> keys(std::vector<std::string> more = {}) const {
    std::vector<std::string> all = {"url=" + server.url("ticket"), "cafile=" + server.ca_file()};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  void answer_writes_with(int status) {
    Fault fault;
    fault.op = Op::put;
    fault.times = 0;
    fault.status = status;
    server.add_fault(fault);
  }

  Watchdog watchdog{"a test of standard error"};
  Server server;
  Pipe pipe;
};

size_t lines_with(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE(
    "standard error that nobody reads keeps neither requests nor the end; lines that are "
    "lost are counted",
    "[stderr]") {
  Fixture f;
  Nbdkit nbdkit(f.keys(), {}, f.pipe.write_end());
  REQUIRE(nbdkit.serves());
  f.pipe.fill();
  f.answer_writes_with(400);
  auto client = std::make_unique<NbdClient>(nbdkit);
  const auto data = pattern(1, 512);
  constexpr size_t kFailures = 1500;
  for (size_t i = 0; i < kFailures; ++i) REQUIRE(client->write(i * 512, data.data(), 512) == EIO);
  REQUIRE(client->flush() == 0);
  client.reset();  // nbdkit waits for its clients to leave

  SECTION("and nbdkit ends") { nbdkit.stop(); }
  SECTION("which is told when it is read at last") {
    const std::string text = f.pipe.read_until("nobody read standard error");
    INFO(text);
    const size_t said = lines_with(text, "nbdkit: error: ");
    const size_t at = text.rfind("warning: ");
    REQUIRE(at != text.npos);
    size_t lost = 0;
    REQUIRE(sscanf(text.c_str() + at, "warning: %zu lines were lost", &lost) == 1);
    CHECK(lost > 0);
    CHECK(said + lost == kFailures);
    nbdkit.stop();
  }
}

TEST_CASE("standard error that nobody reads: in an outage nbdkit ends as ever", "[stderr]") {
  Fixture f;
  Nbdkit nbdkit(f.keys({"replay=64M", "retry-time=300"}), {}, f.pipe.write_end());
  REQUIRE(nbdkit.serves());
  auto client = std::make_unique<NbdClient>(nbdkit);
  const auto data = pattern(2, 65536);
  REQUIRE(client->write(0, data.data(), data.size()) == 0);
  f.server.stop();
  auto late = std::async(std::launch::async, [&] {
    const int error = client->write(65536, data.data(), data.size());
    client.reset();  // nbdkit waits for its clients to leave
    return error;
  });
  REQUIRE(f.pipe.read_until("trying again").find("trying again") != std::string::npos);
  f.pipe.fill();
  nbdkit.stop();
  CHECK(late.get() != 0);
}

TEST_CASE("standard error that nobody reads: with a spool writes and local flushes go on",
          "[stderr]") {
  Fixture f;
  TemporaryDirectory spool;
  Nbdkit nbdkit(f.keys({"replay=64M", "spool=" + spool.path(), "spool-flush=local"}), {},
                f.pipe.write_end());
  REQUIRE(nbdkit.serves());
  f.pipe.fill();
  auto client = std::make_unique<NbdClient>(nbdkit);
  f.answer_writes_with(500);
  const auto data = pattern(3, 65536);
  for (uint64_t i = 0; i < 100; ++i)
    REQUIRE(client->write(i * 65536, data.data(), data.size()) == 0);
  REQUIRE(client->flush() == 0);
  client.reset();
  nbdkit.stop();
}
