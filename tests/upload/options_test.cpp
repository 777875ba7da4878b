// SPDX-License-Identifier: BSD-3-Clause
//
// The command line of nbdupload, taken apart.

#include "options.h"

#include <vector>

#include "catch.h"

namespace {

nbdupload::Or<nbdupload::Options> parse(std::vector<const char*> words) {
  words.insert(words.begin(), "nbdupload");
  return nbdupload::parse_options(static_cast<int>(words.size()), words.data());
}

}  // namespace

using Words = std::vector<std::string>;

TEST_CASE("options may stand anywhere before --, and what follows that is words", "[options]") {
  auto parsed = parse({"disk", "-q", "url", "k=v", "--verify", "l=w"});
  REQUIRE(parsed.ok());
  CHECK(parsed.value().quiet);
  CHECK(parsed.value().verify);
  CHECK(parsed.value().words == Words{"disk", "url", "k=v", "l=w"});
  parsed = parse({"--", "--help", "-x"});
  REQUIRE(parsed.ok());
  CHECK(parsed.value().words == Words{"--help", "-x"});
}

TEST_CASE("an option that may be given many times takes one value each time", "[options]") {
  auto parsed = parse({"--map", "a=b", "k=v", "--map=[c]=d", "--filter=log", "--filter", "rate"});
  REQUIRE(parsed.ok());
  CHECK(parsed.value().maps == Words{"a=b", "[c]=d"});
  CHECK(parsed.value().filters == Words{"log", "rate"});
  CHECK(parsed.value().words == Words{"k=v"});
}

TEST_CASE("a number of jobs is one that makes sense", "[options]") {
  for (const char* text : {"--jobs=0", "--jobs=-1", "--jobs=x", "--jobs=101", "--jobs=4x"})
    CHECK_FALSE(parse({text}).ok());
  auto parsed = parse({"--jobs=7"});
  REQUIRE(parsed.ok());
  CHECK(parsed.value().jobs == 7);
}

TEST_CASE("a value stands behind = or a blank, or right behind a short option", "[options]") {
  for (const auto& words : std::vector<std::vector<const char*>>{
           {"--format=raw"}, {"--format", "raw"}, {"-fraw"}, {"-f", "raw"}, {"-fqed", "-fraw"}}) {
    auto parsed = parse(words);
    REQUIRE(parsed.ok());
    CHECK(parsed.value().format == "raw");
  }
}

TEST_CASE("a value that is missing or empty is refused, and takes no other argument",
          "[options]") {
  for (const auto& words : std::vector<std::vector<const char*>>{
           {"--format"}, {"a", "--format="}, {"--format=", "a"}, {"--format", "", "a"}}) {
    const auto parsed = parse(words);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.failure().ending() == nbdupload::Ending::kUsage);
    CHECK(parsed.failure().text().starts_with("--format needs a value"));
  }
}

TEST_CASE("of an unknown option only the name is told", "[options]") {
  const auto parsed = parse({"--unknown=secret", "a", "b"});
  REQUIRE_FALSE(parsed.ok());
  CHECK(parsed.failure().text() == "unknown option '--unknown'");
}

TEST_CASE("the name of a file that looks like a list is one name", "[options]") {
  auto parsed = parse({"[a,b]", "url"});
  REQUIRE(parsed.ok());
  CHECK(parsed.value().words == Words{"[a,b]", "url"});
}
