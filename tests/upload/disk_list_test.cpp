// SPDX-License-Identifier: BSD-3-Clause
//
// Which images go where.

#include "disk_list.h"

#include "catch.h"

using nbdupload::parse_list;
using nbdupload::parse_map;

TEST_CASE("an image and a URL are told apart, whatever else has = in it", "[disk_list]") {
  const auto check = [](const char* text, const char* image, const char* url) {
    auto pair = parse_map(text);
    REQUIRE(pair.ok());
    CHECK(pair.value().image == image);
    CHECK(pair.value().url == url);
  };
  check("a=https://h/x?y=http://z", "a", "https://h/x?y=http://z");
  check("a=b=HTTP://h/x", "a=b", "HTTP://h/x");
  check("a=+b=+c", "a=+b", "+c");
}

TEST_CASE("what is no pair is refused without telling it", "[disk_list]") {
  for (const char* text :
       {"", "secret", "=https://secret/x", "a=ftp://secret", "a https://secret"}) {
    const auto pair = parse_map(text);
    REQUIRE_FALSE(pair.ok());
    CHECK(pair.failure().text().find("secret") == std::string::npos);
  }
}

TEST_CASE("a list is JSON if it begins so, or else lines", "[disk_list]") {
  auto list = parse_list(
      R"( [{"image": "a", "url": "u"}, {"image": "b", "url": "v", "format": "raw"}])", "file");
  REQUIRE(list.ok());
  REQUIRE(list.value().size() == 2);
  CHECK(list.value()[1].format == "raw");
  list = parse_list("# all\n\na\tu\r\nb\tv\traw", "file");
  REQUIRE(list.ok());
  REQUIRE(list.value().size() == 2);
  CHECK(list.value()[0].url == "u");
  CHECK(list.value()[1].format == "raw");
}

TEST_CASE("a list that is wrong is refused with the place", "[disk_list]") {
  const auto text = [](const char* list) {
    const auto parsed = parse_list(list, "file");
    return parsed.failure().text();
  };
  CHECK(text("a\tu\nb").starts_with("--list: 'file', line 2: "));
  CHECK(text("a\tu\traw\tx").starts_with("--list: 'file', line 1: "));
  CHECK(text(R"([{"image": "a", "url": "u"}, 3])").starts_with("--list: 'file', entry 2: "));
  CHECK(text("").starts_with("--list: 'file' names no image"));
  CHECK(text("[{\xff]").starts_with("--list: 'file' is not a JSON array"));
}
