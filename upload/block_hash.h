// SPDX-License-Identifier: BSD-3-Clause
//
// BlockHash: the checksum of a disk as ovirt-imageio defines it: the digest of the digests of its
// blocks (github.com/oVirt/ovirt-imageio, "blkhash").
//
// A block of zeroes is hashed once, so zeroes cost nothing. The algorithm is SHA-256: the server knows
// it under that name everywhere, OpenSSL has it, and processors have instructions for it. (The
// server's default is BLAKE2b with 32 bytes, which OpenSSL 3.0 does not have.)

#pragma once

#include <openssl/evp.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace nbdupload {

class BlockHash {
 public:
  static constexpr const char* kAlgorithm = "sha256";
  // What the server takes if it is not told; it allows 1 to 16 MiB.
  static constexpr size_t kBlock = size_t{4} << 20;

  BlockHash();

  // What comes next: data, or so many zeroes.
  void add(std::string_view data);
  void add_zeroes(uint64_t count);

  // In hexadecimal. Nothing can be added after that.
  [[nodiscard]] std::string finish();

 private:
  using Context = std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)>;
  static std::string digest_of(EVP_MD_CTX* context);
  void end_block();

  Context all_, block_;
  size_t in_block_ = 0;  // bytes of the block that has begun
  std::string zero_digest_;
};

}  // namespace nbdupload
