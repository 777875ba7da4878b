// SPDX-License-Identifier: BSD-3-Clause
//
// What earlier runs have left in a directory, with real files in it: what is
// to be sent, what goes, what the user has to decide.

#include "process/leftovers.h"

#include <filesystem>

#include "catch.h"
#include "fakes.h"
#include "fixture/temporary_directory.h"
#include "journal/spool_file.h"

using upload::Config;
using upload::Environment;
using upload::Kind;
using upload::Leftovers;
using upload::SpoolLeftovers;
using upload::Status;
using upload::fixture::TemporaryDirectory;
using upload::journal::SpoolContent;
using upload::journal::SpoolFile;
using upload::journal::SpoolName;
using upload::journal::SpoolPlace;
using upload::testing::FakeClock;
namespace fs = std::filesystem;
namespace http = upload::http;

namespace {

constexpr uint64_t kSize = 1 << 20;
constexpr char kOurs[] = "ours:443";
constexpr char kOther[] = "second:443";
constexpr char kThird[] = "third:443";
constexpr char kPath[] = "/images/disk";

// A directory, and runs of the plugin that use it for https://ours/images/disk.
struct Fixture {
  explicit Fixture(SpoolLeftovers what = SpoolLeftovers::kFail) {
    config.spool = directory.path();
    config.origin.url = http::parse_url("https://ours/images/disk").value();
    config.spool_leftovers = what;
  }

  std::unique_ptr<SpoolPlace> lock(const std::string& host, const std::string& path = kPath) {
    auto place = SpoolFile::lock(directory.path(), {host, path}, clock);
    REQUIRE(place.ok());
    return std::move(place.value());
  }
  // A run that has ended with so many changes in its spool. Returns the file.
  std::string leave(const std::string& host, uint64_t changes, uint64_t size = kSize,
                    const std::string& path = kPath) {
    const auto place = lock(host, path);
    const auto store = place->open("https://" + host + "/images/...", size, false);
    REQUIRE(store.ok());
    const std::vector<char> data(512, host[0]);
    for (uint64_t i = 1; i <= changes; ++i) {
      const SpoolContent content{{i, {i * 512, 512}, i, false, 0}, data.data()};
      REQUIRE(store.value()->append({&content, 1}).ok());
    }
    return place->path();
  }
  // The first byte of the first change in that host's spool; 0: there is none.
  char content(const std::string& host) {
    const auto place = lock(host);
    if (!place->exists()) return 0;
    const auto store = place->open("", 0, true);
    REQUIRE(store.ok());
    char byte = 0;
    const auto there = store.value()->read(1, 0, &byte, 1);
    return there.ok() && there.value() ? byte : '\0';
  }
  // Both steps, as at the start of a run with a disk of that size.
  Status start(Leftovers& leftovers, uint64_t size = kSize) {
    const Status status = leftovers.find();
    return status.ok() ? leftovers.decide(size) : status;
  }

  TemporaryDirectory directory;
  FakeClock clock;
  Environment environment{
      clock,
      {},
      [this](const std::string& where,
             const SpoolName& name) -> upload::Result<std::unique_ptr<SpoolPlace>> {
        auto file = SpoolFile::lock(where, name, clock);
        if (!file.ok()) return file.status();
        return std::unique_ptr<SpoolPlace>(std::move(file.value()));
      },
      {}};
  Config config;
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("without a directory for the spool nothing is looked for", "[leftovers]") {
  Fixture f;
  f.leave(kOurs, 1);
  f.config.spool.clear();
  Leftovers leftovers(f.config, f.environment);
  CHECK(f.start(leftovers).ok());
  CHECK_FALSE(leftovers.to_send());
  CHECK_FALSE(leftovers.unclean());
  CHECK(leftovers.take_place() == nullptr);
}

TEST_CASE("in an empty directory there is a place, and nothing is left", "[leftovers]") {
  Fixture f;
  Leftovers leftovers(f.config, f.environment);
  CHECK(f.start(leftovers).ok());
  CHECK_FALSE(leftovers.to_send());
  CHECK_FALSE(leftovers.unclean());
  const auto place = leftovers.take_place();
  REQUIRE(place != nullptr);
  CHECK_FALSE(place->exists());
}

TEST_CASE("what is left of the same URL is to be sent", "[leftovers]") {
  for (const SpoolLeftovers what : {SpoolLeftovers::kFail, SpoolLeftovers::kSend}) {
    Fixture f(what);
    const std::string file = f.leave(kOurs, 3);
    {
      Leftovers leftovers(f.config, f.environment);
      REQUIRE(leftovers.find().ok());
      CHECK(leftovers.to_send());
      CHECK(leftovers.path() == file);
      CHECK(leftovers.decide(kSize).ok());
      CHECK(leftovers.to_send());
      CHECK(leftovers.unclean());
      CHECK(leftovers.take_place()->path() == file);
    }
    CHECK(f.content(kOurs) == 'o');
  }
}

TEST_CASE("while another nbdkit uses the spool of the same URL there is no start",
          "[leftovers]") {
  Fixture f;
  const auto place = f.lock(kOurs);
  Leftovers leftovers(f.config, f.environment);
  const Status status = leftovers.find();
  CHECK(status.kind() == Kind::kSpool);
  CHECK(has(status.text(), "another nbdkit uses " + place->path()));
}

TEST_CASE("discard drops what is left of the same URL, and of others", "[leftovers]") {
  Fixture f(SpoolLeftovers::kDiscard);
  const std::string ours = f.leave(kOurs, 3);
  const std::string other = f.leave(kOther, 3);
  const std::string third = f.leave(kThird, 3);
  Leftovers leftovers(f.config, f.environment);
  REQUIRE(leftovers.find().ok());
  CHECK_FALSE(leftovers.to_send());
  CHECK(fs::exists(ours));  // not before the size is known
  CHECK(leftovers.decide(kSize).ok());
  CHECK_FALSE(leftovers.to_send());
  CHECK(leftovers.unclean());
  CHECK_FALSE(fs::exists(ours));
  CHECK_FALSE(fs::exists(other));
  CHECK_FALSE(fs::exists(third));
}

TEST_CASE("what is left of the same path under another host is the user's to decide",
          "[leftovers]") {
  Fixture f;
  const std::string file = f.leave(kOther, 3);
  Leftovers leftovers(f.config, f.environment);
  REQUIRE(leftovers.find().ok());
  CHECK_FALSE(leftovers.to_send());
  const Status status = leftovers.decide(kSize);
  CHECK(status.kind() == Kind::kSpool);
  CHECK(has(status.text(), "the spool " + file +
                               " of https://second:443/images/..., with 3 "
                               "changes of together 1536 bytes"));
  CHECK(has(status.text(), "spool-leftovers=send"));
  CHECK(has(status.text(), "spool-leftovers=discard"));
  // The next start finds it as it was, and nothing locked.
  CHECK(leftovers.take_place() == nullptr);
  CHECK(f.content(kOther) == 's');
  CHECK(f.content(kOurs) == 0);
}

TEST_CASE("send makes what another host has left this URL's", "[leftovers]") {
  Fixture f(SpoolLeftovers::kSend);
  const std::string file = f.leave(kThird, 3);
  {
    Leftovers leftovers(f.config, f.environment);
    REQUIRE(leftovers.find().ok());
    CHECK(leftovers.to_send());
    CHECK(leftovers.path() == file);
    CHECK(leftovers.decide(kSize).ok());
    CHECK(leftovers.to_send());
    CHECK(leftovers.path() != file);
  }
  CHECK_FALSE(fs::exists(file));
  CHECK(f.content(kOurs) == 't');
}

TEST_CASE("of two spools with changes for a disk none is sent", "[leftovers]") {
  for (const char* host : {kOurs, kThird}) {
    Fixture f(SpoolLeftovers::kSend);
    const std::string other = f.leave(kOther, 1);
    const std::string second = f.leave(host, 2);
    Leftovers leftovers(f.config, f.environment);
    const Status status = f.start(leftovers);
    CHECK(status.kind() == Kind::kSpool);
    CHECK(has(status.text(), other));
    CHECK(has(status.text(), second));
    CHECK(f.content(kOther) == 's');
    CHECK(f.content(host) == host[0]);
  }
}

TEST_CASE("what another host has left for a disk of another size stays where it is",
          "[leftovers]") {
  for (const SpoolLeftovers what :
       {SpoolLeftovers::kFail, SpoolLeftovers::kSend, SpoolLeftovers::kDiscard}) {
    Fixture f(what);
    f.leave(kOther, 3, 2 * kSize);
    Leftovers leftovers(f.config, f.environment);
    CHECK(f.start(leftovers).ok());
    CHECK_FALSE(leftovers.to_send());
    CHECK_FALSE(leftovers.unclean());
    CHECK(f.content(kOther) == 's');
  }
}

TEST_CASE("what is left for another path is none of ours", "[leftovers]") {
  Fixture f(SpoolLeftovers::kDiscard);
  const std::string file = f.leave(kOurs, 3, kSize, "/images/another");
  Leftovers leftovers(f.config, f.environment);
  CHECK(f.start(leftovers).ok());
  CHECK(fs::exists(file));
}

TEST_CASE("a spool of the same path that another nbdkit uses is left alone", "[leftovers]") {
  for (const SpoolLeftovers what :
       {SpoolLeftovers::kFail, SpoolLeftovers::kSend, SpoolLeftovers::kDiscard}) {
    Fixture f(what);
    const std::string file = f.leave(kOther, 3);
    const auto in_use = f.lock(kOther);
    Leftovers leftovers(f.config, f.environment);
    CHECK(f.start(leftovers).ok());
    CHECK_FALSE(leftovers.to_send());
    CHECK(fs::exists(file));
  }
}

TEST_CASE("an empty spool of the same disk tells that requests may be under way", "[leftovers]") {
  Fixture f;
  const std::string file = f.leave(kOurs, 0);
  Leftovers leftovers(f.config, f.environment);
  CHECK(f.start(leftovers).ok());
  CHECK_FALSE(leftovers.to_send());
  CHECK(leftovers.unclean());
  CHECK(fs::exists(file));
}

TEST_CASE("an empty spool of the same URL and another size makes room", "[leftovers]") {
  Fixture f;
  const std::string file = f.leave(kOurs, 0, 2 * kSize);
  Leftovers leftovers(f.config, f.environment);
  CHECK(f.start(leftovers).ok());
  CHECK_FALSE(fs::exists(file));
}

TEST_CASE("another host's empty spool of the disk leaves its mark in ours, and goes",
          "[leftovers]") {
  Fixture f;
  const std::string file = f.leave(kOther, 0);
  {
    Leftovers leftovers(f.config, f.environment);
    CHECK(f.start(leftovers).ok());
    CHECK(leftovers.unclean());
    CHECK_FALSE(leftovers.to_send());
    CHECK_FALSE(fs::exists(file));
    CHECK(leftovers.take_place()->exists());
  }
  // Also if that run ends before it has made a spool.
  Leftovers next(f.config, f.environment);
  CHECK(f.start(next).ok());
  CHECK(next.unclean());
}

TEST_CASE("another host's empty spool does not take changes of ours away", "[leftovers]") {
  Fixture f;
  f.leave(kOurs, 3);
  const std::string file = f.leave(kOther, 0);
  {
    Leftovers leftovers(f.config, f.environment);
    CHECK(f.start(leftovers).ok());
    CHECK(leftovers.to_send());
    CHECK_FALSE(fs::exists(file));
  }
  CHECK(f.content(kOurs) == 'o');
}

TEST_CASE("another host's empty spool of another size is another disk's", "[leftovers]") {
  Fixture f;
  const std::string file = f.leave(kOther, 0, 2 * kSize);
  Leftovers leftovers(f.config, f.environment);
  CHECK(f.start(leftovers).ok());
  CHECK_FALSE(leftovers.unclean());
  CHECK(fs::exists(file));
}

TEST_CASE("a time is told as one that people read", "[leftovers]") {
  CHECK(upload::time_text(0) == "1970-01-01 00:00:00 UTC");
  CHECK(upload::time_text(1795276655) == "2026-11-21 15:57:35 UTC");
}
