// SPDX-License-Identifier: BSD-3-Clause
//
// Numbers, as users and servers write them.

#include "base/parse.h"

#include "catch.h"

using upload::parse_bool;
using upload::parse_number;
using upload::parse_size;

TEST_CASE("a number is digits and nothing else", "[parse]") {
  CHECK(parse_number("0") == 0U);
  CHECK(parse_number("18446744073709551615") == UINT64_MAX);
  for (const char* text : {"", "-1", "+1", " 1", "1 ", "0x10", "1.5", "18446744073709551616"})
    CHECK_FALSE(parse_number(text));
}

TEST_CASE("a size has nbdkit's suffixes", "[parse]") {
  CHECK(parse_size("512") == 512U);
  CHECK(parse_size("512b") == 512U);
  CHECK(parse_size("3s") == 1536U);
  CHECK(parse_size("4k") == 4096U);
  CHECK(parse_size("4K") == 4096U);
  CHECK(parse_size("2M") == 2097152U);
  CHECK(parse_size("10G") == 10737418240U);
  CHECK(parse_size("1T") == uint64_t{1} << 40);
  CHECK(parse_size("1P") == uint64_t{1} << 50);
  CHECK(parse_size("7E") == uint64_t{7} << 60);
  CHECK(parse_size("9223372036854775807") == static_cast<uint64_t>(INT64_MAX));
}

TEST_CASE("a size that is not one is refused", "[parse]") {
  for (const char* text : {"", "k", "-1", "1.5G", "1KB", "1 K", "8E", "9223372036854775808",
                           "99999999999999999999", "1x", "G1", "0x10"})
    CHECK_FALSE(parse_size(text));
}

TEST_CASE("a boolean has nbdkit's words, in any case", "[parse]") {
  for (const char* yes : {"1", "true", "TRUE", "t", "Yes", "y", "on"})
    CHECK(parse_bool(yes) == true);
  for (const char* no : {"0", "false", "False", "f", "NO", "n", "off"})
    CHECK(parse_bool(no) == false);
  for (const char* text : {"", "2", "tru", "nope", " true"}) CHECK_FALSE(parse_bool(text));
}
