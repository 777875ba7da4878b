// SPDX-License-Identifier: BSD-3-Clause
//
// Texts that nbdupload reads and writes: URLs, what qemu-img and nbdinfo print, commands.

#include "catch.h"
#include "console.h"
#include "dry_run.h"
#include "image_info.h"
#include "target_facts.h"
#include "target_url.h"

using nbdupload::parse_image_info;
using nbdupload::parse_target_facts;
using nbdupload::quoted_word;
using nbdupload::redacted_url;

TEST_CASE("of a URL the server is shown, and that it is an image's", "[texts]") {
  CHECK(redacted_url("https://host:1/images/ticket/x?y") == "https://host:1/images/...");
  CHECK(redacted_url("https://host/ticket") == "https://host/...");
  CHECK(redacted_url("https://host") == "https://host");
  CHECK(redacted_url("https://[::1]:5/images/t") == "https://[::1]:5/images/...");
}

TEST_CASE("of a URL that is not well-formed nothing is shown", "[texts]") {
  CHECK(redacted_url("ticket") == "...");
  CHECK(redacted_url("https://me:secret@host/images/x") == "https://...");
  CHECK(redacted_url("https://ho st/x") == "https://...");
  CHECK(redacted_url("https:///images/x") == "https://...");
  CHECK(redacted_url("1x://host/secret") == "...");
}

TEST_CASE("what an image refers to is found at any depth, and the image itself is not it",
          "[texts]") {
  const auto info = parse_image_info(R"([
    {"filename": "top", "format": "qcow2", "backing-filename": "m", "full-backing-filename": "/m",
     "format-specific": {"data": {"data-file": "d", "extents": [{"filename": "e"}]}}},
    {"filename": "/m", "format": "raw"}])");
  CHECK(info.format == "qcow2");
  CHECK(info.references == std::vector<std::string>{"/m", "d", "e"});
}

TEST_CASE("a backing file without a full name is one too", "[texts]") {
  const auto info =
      parse_image_info(R"({"filename": "a", "format": "qcow2", "backing-filename": "b"})");
  CHECK(info.references == std::vector<std::string>{"b"});
}

TEST_CASE("what is no description of an image has no format", "[texts]") {
  for (const char* text : {"", "[]", "3", "{", "{\"format\": 3}", "[{}]"})
    CHECK(parse_image_info(text).format.empty());
}

TEST_CASE("names are shown as qemu-img writes them", "[texts]") {
  CHECK(nbdupload::shown_references({"a", "g\xc3\xbcn\"\n"}) == R"(a', 'g\u00fcn\"\n)");
}

TEST_CASE("the target's size is told by nbdinfo, or else nothing is", "[texts]") {
  const auto facts = parse_target_facts(
      R"({"exports": [{"export-size": 10, "is_read_only": true, "block_size_minimum": 512}]})");
  REQUIRE(facts);
  CHECK(facts->size == 10);
  CHECK(facts->read_only);
  CHECK(facts->least_block == 512);
  for (const char* text : {"", "{}", R"({"exports": []})", R"({"exports": [{}]})",
                           R"({"exports": [{"export-size": -1}]})"})
    CHECK_FALSE(parse_target_facts(text));
}

TEST_CASE("a word of a dry run is one that a shell takes", "[texts]") {
  CHECK(quoted_word("a/b=c") == "a/b=c");
  CHECK(quoted_word("") == "''");
  CHECK(quoted_word("a b$(c)") == "'a b$(c)'");
  CHECK(quoted_word("it's") == "$'it\\'s'");
  CHECK(quoted_word("a\n\x1b\\") == "$'a\\012\\033\\\\'");
}

TEST_CASE("what is printed is one line, and not a very long one", "[texts]") {
  CHECK(nbdupload::shown_line("a\x1b[31m\nb") == "a?[31m b");
  CHECK(nbdupload::shown_line(std::string(5000, 'x')).size() == 4096 + 3);
}
