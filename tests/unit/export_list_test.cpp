// SPDX-License-Identifier: BSD-3-Clause
//
// The file of exports=: what is taken, and the line that is named in what is refused.

#include "process/export_list.h"

#include "catch.h"

using upload::read_export_list;

namespace {

std::string refused(const std::string& text) { return read_export_list(text).status().text(); }

}  // namespace

TEST_CASE("a list of exports is read in its order", "[exports]") {
  const auto list = read_export_list(R"([
    {"name": "sda", "url": "https://h/images/1", "size": 1048576},
    {"url": "https://h/images/2",
     "name": "s\u0064b", "size": "10G"}])");
  REQUIRE(list.ok());
  REQUIRE(list.value().size() == 2);
  CHECK(list.value()[0].name == "sda");
  CHECK(list.value()[0].size == "1048576");
  CHECK(list.value()[0].line_of("size") == 2);
  CHECK(list.value()[1].name == "sdb");
  CHECK(list.value()[1].url == "https://h/images/2");
  CHECK(list.value()[1].size == "10G");
  CHECK(list.value()[1].line_of("url") == 3);
  CHECK(list.value()[1].line_of("name") == 4);
}

TEST_CASE("what is no list of exports is refused with its line", "[exports]") {
  const std::string no_list = "must be a list of exports: [{\"name\": ..., \"url\": ...}, ...]";
  CHECK(refused("") == "line 1: this is not JSON");
  CHECK(refused("[\n{") == "line 2: this is not JSON");
  CHECK(refused("[]") == "line 1: there is no export in it");
  CHECK(refused("{}") == "line 1: " + no_list);
  CHECK(refused("7") == "line 1: " + no_list);
  CHECK(refused("[\n\"sda\"]") == "line 2: " + no_list);
  CHECK(refused("[[]]") == "line 1: " + no_list);
  CHECK(refused("[\n{\"name\": \"a\"}\n]") == "line 2: an export has no \"url\"");
  CHECK(refused("[{\"url\": \"a\"}]") == "line 1: an export has no \"name\"");
  CHECK(refused("[\n\n{\"nmae\": \"a\"}]") ==
        "line 3: unknown key \"nmae\"; there are \"name\", \"url\", \"size\", \"claim\"");
  CHECK(refused("[{\"name\": \"a\",\n\"name\": \"b\"}]") == "line 2: \"name\" comes twice");
  CHECK(refused("[{\"name\": 7}]") == "line 1: \"name\" must be a text");
  CHECK(refused("[{\"name\": \"\"}]") == "line 1: \"name\" is empty");
  CHECK(refused("[{\"url\": {}}]") == "line 1: \"url\" must be a text");
  CHECK(refused("[{\"size\": -1}]") == "line 1: \"size\" must be a text or a number of bytes");
  CHECK(refused("[{\"size\": 1.5}]") == "line 1: \"size\" must be a text or a number of bytes");
}

TEST_CASE("nothing of a list that is broken is shown", "[exports]") {
  CHECK(refused("[{\"url\": \"https://h/images/secret}]").find("secret") == std::string::npos);
}
