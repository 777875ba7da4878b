// SPDX-License-Identifier: BSD-3-Clause
//
// What is made of the lines that nbdkit and other programs print.

#include "said.h"

#include "catch.h"
#include "line_reader.h"

using nbdupload::last_words;
using nbdupload::LineReader;
using nbdupload::NbdkitSaid;

namespace {

using Lines = std::vector<std::string>;

NbdkitSaid serving() {
  NbdkitSaid said;
  said.begin();
  said.has_started();
  return said;
}

}  // namespace

TEST_CASE("lines come whole, however they are cut on the way", "[said]") {
  Lines lines;
  LineReader reader([&](const std::string& line) { lines.push_back(line); });
  for (const char* part : {"o", "ne\ntwo\n", "\nfo", "ur"}) reader.take(part);
  CHECK(lines == Lines{"one", "two", ""});
  reader.finish();
  reader.finish();
  CHECK(lines == Lines{"one", "two", "", "four"});
}

TEST_CASE("a line without an end fills no memory", "[said]") {
  std::string line;
  LineReader reader([&](const std::string& text) { line = text; });
  const std::string part(10000, 'x');
  for (int i = 0; i < 100; ++i) reader.take(part);
  reader.take("\n");
  CHECK(line.size() == 65536);
}

TEST_CASE("the reason is the last line that is one, without names of programs", "[said]") {
  CHECK(last_words({}) == "no reason was given");
  CHECK(last_words({"nbdkit: error: bad", "", "Use 'x' for documentation."}) == "bad");
  CHECK(last_words({"nbdkit: file[1]: error: bad"}) == "bad");
  CHECK(last_words({"qemu-nbd: Failed to blk_new_open 'json:{\"a\"}': Is bad"}) == "Is bad");
}

TEST_CASE("the first error is found by the beginning of its line", "[said]") {
  NbdkitSaid said = serving();
  said.add("a server says: nbdkit: error: forged");
  said.add("nbdkit: upload.1: error: real");
  said.add("nbdkit: error: later");
  CHECK(said.first_error() == "real");
  CHECK(said.errors() == 2);
}

TEST_CASE("one error of many requests is shown once, and three at most", "[said]") {
  NbdkitSaid said = serving();
  for (const char* text : {"a", "a", "b", "c", "d"})
    for (const char* thread : {"upload.1", "upload.2"})
      said.add("nbdkit: " + std::string(thread) + ": error: " + text);
  CHECK(said.take_shown() == Lines{"nbdkit: upload.1: error: a", "nbdkit: upload.1: error: b",
                                   "nbdkit: upload.1: error: c"});
  CHECK(said.take_shown().empty());
}

TEST_CASE("an outage is told each time, a warning at the start once", "[said]") {
  NbdkitSaid said;
  said.begin();
  said.add("nbdkit: warning");
  said.has_started();
  said.add("nbdkit: trying again");
  said.add("nbdkit: trying again");
  CHECK(said.take_shown().size() == 3);
  said.begin();
  said.add("nbdkit: warning");
  CHECK(said.take_shown().empty());
}

TEST_CASE("nbdkit's complaints that a client has left are not shown", "[said]") {
  NbdkitSaid said = serving();
  said.add("nbdkit: upload.3: error: write reply: NBD_CMD_WRITE: Broken pipe");
  said.add("nbdkit: connections.c:402: raw_send_socket: Assertion `sock >= 0' failed.");
  CHECK(said.take_shown().empty());
}

TEST_CASE("what --verbose adds is told by the beginning of a line", "[said]") {
  CHECK(nbdupload::is_debug("nbdkit: debug: x"));
  CHECK(nbdupload::is_debug("nbdkit: upload.12: debug: x"));
  CHECK(nbdupload::is_debug("nbdkit: upload[1]: debug: x"));
  CHECK_FALSE(nbdupload::is_debug("nbdkit: error: debug: x"));
  CHECK_FALSE(nbdupload::is_debug("nbdkit: a server says: debug: x"));
}

TEST_CASE("a line that could be nbdupload's own is told as nbdkit's", "[said]") {
  NbdkitSaid said = serving();
  said.add("nbdupload: done");
  CHECK(said.take_shown() == Lines{"nbdkit: nbdupload: done"});
}

TEST_CASE("a difference is told by exactly one line, which nobody else can say", "[said]") {
  NbdkitSaid said = serving();
  said.add("nbdkit: upload.1: error: data written does not match expected: forged");
  said.add("nbdkit: error: data written does not match expected");
  CHECK_FALSE(said.mismatch());
  (void)said.take_shown();
  said.add("nbdkit: upload.12: error: data written does not match expected");
  CHECK(said.mismatch());
  CHECK(said.take_shown().empty());
}
