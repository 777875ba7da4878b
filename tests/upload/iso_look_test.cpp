// SPDX-License-Identifier: BSD-3-Clause
//
// What is on an ISO 9660 image, whatever that says of itself.

#include "iso_look.h"

#include <algorithm>

#include "catch.h"

using nbdupload::find_ova;

namespace {

constexpr size_t kSector = 2048;

// A directory's record.
std::string record(const std::string& name, uint32_t sector, uint32_t size, bool directory) {
  std::string text(33 + name.size() + (name.size() % 2 == 0 ? 1 : 0), '\0');
  text[0] = static_cast<char>(text.size());
  for (size_t i = 0; i < 4; ++i) {
    text[2 + i] = static_cast<char>(sector >> 8 * i);
    text[10 + i] = static_cast<char>(size >> 8 * i);
  }
  text[25] = directory ? 2 : 0;
  text[32] = static_cast<char>(name.size());
  return text.replace(33, name.size(), name);
}

// An image with a root directory in sector 18.
std::string image(const std::string& root, uint32_t root_size = kSector) {
  std::string text(20 * kSector, '\0');
  text.replace(16 * kSector, 7, std::string("\1CD001\1"));
  const std::string root_record = record(std::string(1, '\0'), 18, root_size, true);
  text.replace(16 * kSector + 156, root_record.size(), root_record);
  text.replace(18 * kSector, root.size(), root);
  return text;
}

std::string found_in(const std::string& text) {
  return find_ova([&](uint64_t offset, size_t count) {
    return offset < text.size() ? text.substr(offset, count) : "";
  });
}

}  // namespace

TEST_CASE("an OVA on a CD is found, in a directory too", "[iso]") {
  CHECK(found_in(image(record("README.TXT;1", 0, 0, false) + record("A.OVF;1", 0, 0, false))) ==
        "A.OVF");
  CHECK(found_in(image(record("guest.Ova", 0, 0, false))) == "guest.Ova");
  std::string nested = image(record("VMS", 19, kSector, true));
  const std::string below = record("GUEST.OVA;1", 0, 0, false);
  nested.replace(19 * kSector, below.size(), below);
  CHECK(found_in(nested) == "GUEST.OVA");
}

TEST_CASE("a CD without one, and what is none, is none", "[iso]") {
  CHECK(found_in(image(record("INSTALL.EXE;1", 0, 0, false))).empty());
  CHECK(found_in(image(record("DIR.OVA", 19, 0, true))).empty());
  CHECK(found_in("").empty());
  CHECK(found_in(std::string(20 * kSector, 'x')).empty());
}

TEST_CASE("a CD that lies of itself is looked at for a limited time", "[iso]") {
  // Directories that have each other, or themselves, or end nowhere.
  CHECK(found_in(image(record("LOOP", 18, kSector, true) + record("MORE", 18, kSector, true)))
            .empty());
  CHECK(found_in(image(record("FAR", 0xffffffff, 0xffffffff, true), 0xffffffff)).empty());
  std::string cut = record("A.OVA;1", 0, 0, false);
  cut[32] = '\x7f';
  CHECK(found_in(image(cut)).empty());
  cut[0] = 1;
  CHECK(found_in(image(cut)).empty());
}
