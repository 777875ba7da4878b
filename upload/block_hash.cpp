// SPDX-License-Identifier: BSD-3-Clause
//
// OpenSSL's functions fail here for lack of memory only, which shows as a checksum that is no other's.

#include "block_hash.h"

#include <algorithm>
#include <vector>

namespace nbdupload {

namespace {

const std::vector<char>& zeroes() {
  static const std::vector<char> block(BlockHash::kBlock);
  return block;
}

}  // namespace

BlockHash::BlockHash()
    : all_(EVP_MD_CTX_new(), EVP_MD_CTX_free), block_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
  EVP_DigestInit_ex(all_.get(), EVP_sha256(), nullptr);
  EVP_DigestInit_ex(block_.get(), EVP_sha256(), nullptr);
  EVP_DigestUpdate(block_.get(), zeroes().data(), kBlock);
  zero_digest_ = digest_of(block_.get());
}

// The context begins anew.
std::string BlockHash::digest_of(EVP_MD_CTX* context) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestFinal_ex(context, digest, &length);
  EVP_DigestInit_ex(context, EVP_sha256(), nullptr);
  return {reinterpret_cast<const char*>(digest), length};
}

void BlockHash::end_block() {
  const std::string digest = digest_of(block_.get());
  EVP_DigestUpdate(all_.get(), digest.data(), digest.size());
  in_block_ = 0;
}

void BlockHash::add(std::string_view data) {
  while (!data.empty()) {
    const size_t count = std::min(data.size(), kBlock - in_block_);
    EVP_DigestUpdate(block_.get(), data.data(), count);
    in_block_ += count;
    data.remove_prefix(count);
    if (in_block_ == kBlock) end_block();
  }
}

void BlockHash::add_zeroes(uint64_t count) {
  while (count > 0) {
    if (in_block_ == 0 && count >= kBlock) {
      EVP_DigestUpdate(all_.get(), zero_digest_.data(), zero_digest_.size());
      count -= kBlock;
    } else {
      const auto part = static_cast<size_t>(std::min<uint64_t>(count, kBlock - in_block_));
      add({zeroes().data(), part});
      count -= part;
    }
  }
}

std::string BlockHash::finish() {
  if (in_block_ > 0) end_block();
  std::string hex;
  for (const char byte : digest_of(all_.get())) {
    constexpr char kDigits[] = "0123456789abcdef";
    hex += kDigits[static_cast<unsigned char>(byte) >> 4];
    hex += kDigits[static_cast<unsigned char>(byte) & 15];
  }
  return hex;
}

}  // namespace nbdupload
