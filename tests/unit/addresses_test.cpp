// SPDX-License-Identifier: BSD-3-Clause
//
// Which addresses of a host are tried, in which order, and with how much time.

#include "http/addresses.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "catch.h"
#include "fakes.h"

using upload::Kind;
using upload::Result;
using upload::Status;
using upload::http::Addresses;
using upload::testing::FakeClock;

namespace {

using List = std::vector<std::string>;

Addresses::Resolve always(List list) {
  return [list](const std::string&) -> Result<List> { return list; };
}

List attempts(Addresses& addresses) {
  const auto list = addresses.attempts("host");
  REQUIRE(list.ok());
  return list.value();
}

}  // namespace

TEST_CASE("addresses are tried in the resolver's order", "[addresses]") {
  FakeClock clock;
  Addresses addresses(always({"127.0.0.1", "127.0.0.2", "127.0.0.3"}), clock);
  CHECK(attempts(addresses) == List{"127.0.0.1", "127.0.0.2", "127.0.0.3"});
}

TEST_CASE("the address that worked last is tried first, the others in their order",
          "[addresses]") {
  FakeClock clock;
  Addresses addresses(always({"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"}), clock);
  addresses.worked("127.0.0.3");
  CHECK(attempts(addresses) == List{"127.0.0.3", "127.0.0.1", "127.0.0.2", "127.0.0.4"});
  addresses.worked("127.0.0.2");
  CHECK(attempts(addresses) == List{"127.0.0.2", "127.0.0.1", "127.0.0.3", "127.0.0.4"});
}

TEST_CASE("an address that the host has no more is not tried", "[addresses]") {
  FakeClock clock;
  Addresses addresses(always({"127.0.0.1", "127.0.0.2"}), clock);
  addresses.worked("127.0.0.9");
  CHECK(attempts(addresses) == List{"127.0.0.1", "127.0.0.2"});
}

TEST_CASE("addresses of two families are tried side by side", "[addresses]") {
  FakeClock clock;
  Addresses addresses(always({"::1", "::2", "127.0.0.1", "::3"}), clock);
  CHECK(attempts(addresses) == List{"[::1],127.0.0.1", "[::2]", "[::3]"});
  addresses.worked("127.0.0.1");
  CHECK(attempts(addresses) == List{"127.0.0.1,[::1]", "[::2]", "[::3]"});
}

TEST_CASE("what has no addresses is left to libcurl, or fails as the resolver says",
          "[addresses]") {
  FakeClock clock;
  Addresses nothing(always({}), clock);
  CHECK(attempts(nothing).empty());
  Addresses failing(
      [](const std::string&) -> Result<List> { return Status(Kind::kConnect, "no answer"); },
      clock);
  CHECK(failing.attempts("host").status().text() == "no answer");
}

TEST_CASE("a name is looked up again when that was long ago, or no connection can be made",
          "[addresses]") {
  FakeClock clock;
  int lookups = 0;
  Addresses addresses(
      [&](const std::string&) -> Result<List> {
        return List{"127.0.0." + std::to_string(++lookups)};
      },
      clock);
  CHECK(attempts(addresses) == List{"127.0.0.1"});
  clock.advance(std::chrono::seconds(59));
  CHECK(attempts(addresses) == List{"127.0.0.1"});
  clock.advance(std::chrono::seconds(1));
  CHECK(attempts(addresses) == List{"127.0.0.2"});
  addresses.failed("host");
  CHECK(attempts(addresses) == List{"127.0.0.3"});
}

TEST_CASE("that a name has no addresses is remembered, too: libcurl may know it", "[addresses]") {
  FakeClock clock;
  int lookups = 0;
  Addresses addresses(
      [&](const std::string&) -> Result<List> {
        ++lookups;
        return List{};
      },
      clock);
  CHECK(attempts(addresses).empty());
  CHECK(attempts(addresses).empty());
  CHECK(lookups == 1);
}

TEST_CASE("many that want to know a name make one look-up, and share what comes of it",
          "[addresses]") {
  FakeClock clock;
  std::mutex mutex;
  std::condition_variable changed;
  int lookups = 0;
  bool go_on = false;
  bool fails = GENERATE(false, true);
  Addresses addresses(
      [&](const std::string&) -> Result<List> {
        std::unique_lock lock(mutex);
        ++lookups;
        changed.notify_all();
        changed.wait(lock, [&] { return go_on; });
        if (fails) return Status(Kind::kConnect, "no answer");
        return List{"127.0.0.1"};
      },
      clock);
  std::atomic<int> found = 0;
  std::atomic<int> begun = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i)
    threads.emplace_back([&] {
      ++begun;
      if (addresses.attempts("host").ok() != fails) ++found;
    });
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return lookups > 0; });
  }
  while (begun < 16) std::this_thread::yield();
  {
    std::unique_lock lock(mutex);
    go_on = true;
    changed.notify_all();
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(found == 16);
  // Whoever had not come to wait yet looks by himself, if it has failed.
  CHECK((fails ? lookups < 16 : lookups == 1));
}

TEST_CASE("what is an address is not looked up", "[addresses]") {
  Addresses addresses;
  for (const char* host : {"127.0.0.1", "[::1]"}) {
    const auto list = addresses.attempts(host);
    REQUIRE(list.ok());
    CHECK(list.value().empty());
  }
}
