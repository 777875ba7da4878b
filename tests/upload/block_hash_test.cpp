// SPDX-License-Identifier: BSD-3-Clause
//
// The checksum of a disk, against values that ovirt-imageio's own code (2.5.3) has computed.

#include "block_hash.h"

#include <algorithm>
#include <string>

#include "catch.h"

using nbdupload::BlockHash;

namespace {

std::string hash_of(std::string_view data) {
  BlockHash hash;
  hash.add(data);
  return hash.finish();
}

}  // namespace

TEST_CASE("the checksum is the one that ovirt-imageio computes", "[block_hash]") {
  CHECK(hash_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hash_of("abc") == "4f8b42c22dd3729b519ba6f68d2da7cc5b2d606d05daed5ad5128cc03e6c6358");
  CHECK(hash_of(std::string(BlockHash::kBlock, 'x') + "abc") ==
        "292b88b0966a15a828bcd7fd17b7fac8739f1d1ae77cdd84894055ede47b0225");
  CHECK(hash_of(std::string(2 * BlockHash::kBlock + 1, '\0')) ==
        "0abd0f48fe25004ce9ca2e45df928ba9b1052f20666d7dde21ecdbeb7aa96482");
}

TEST_CASE("zeroes count as the data that they are, wherever they begin and end", "[block_hash]") {
  const size_t block = BlockHash::kBlock;
  for (const size_t before : {size_t{0}, size_t{1}, block - 1, block}) {
    for (const size_t zeroes : {size_t{1}, block - 1, block, 2 * block + 5}) {
      BlockHash hash;
      hash.add(std::string(before, 'x'));
      hash.add_zeroes(zeroes);
      hash.add("end");
      CHECK(hash.finish() ==
            hash_of(std::string(before, 'x') + std::string(zeroes, '\0') + "end"));
    }
  }
}

TEST_CASE("it does not matter in which pieces the data come", "[block_hash]") {
  std::string data(BlockHash::kBlock + 1000, 'x');
  BlockHash hash;
  for (size_t at = 0; at < data.size(); at += 777777)
    hash.add(std::string_view(data).substr(at, 777777));
  CHECK(hash.finish() == hash_of(data));
}
