// SPDX-License-Identifier: BSD-3-Clause
//
// Archives are told by their first bytes.

#include "content.h"

#include "catch.h"

using nbdupload::archive_of;

TEST_CASE("an archive is told by its first bytes", "[content]") {
  using namespace std::string_literals;
  CHECK(archive_of("\x1f\x8b\x08"s).what == "a gzip file");
  CHECK(archive_of("\xfd"
                   "7zXZ\0\0"s)
            .what == "an xz file");
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  CHECK(archive_of(tar).what.starts_with("a tar archive"));
}

TEST_CASE("each archive that nbdkit unpacks has its filter", "[content]") {
  CHECK(archive_of("\x1f\x8b").filter == "gzip");
  CHECK(archive_of("PK\x03\x04").filter.empty());
}

TEST_CASE("disks in an archive are told by their names", "[content]") {
  const auto names = nbdupload::disk_names("a.ovf\nb.VMDK\nc d.qcow2\nvmdk\n\ndir/e.raw\nf.mf");
  CHECK(names == std::vector<std::string>{"b.VMDK", "c d.qcow2", "dir/e.raw"});
}

TEST_CASE("what is shorter than a magic number, or has it elsewhere, is no archive",
          "[content]") {
  using namespace std::string_literals;
  CHECK(archive_of("").what.empty());
  CHECK(archive_of("\x1f"s).what.empty());
  CHECK(archive_of("\xfd"
                   "7zXZ"s)
            .what.empty());
  CHECK(archive_of(" PK\x03\x04"s).what.empty());
  CHECK(archive_of(std::string(257, 'x') + "usta").what.empty());
}
