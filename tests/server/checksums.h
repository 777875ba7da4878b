// SPDX-License-Identifier: BSD-3-Clause
//
// Checksums, signatures and their encoding. Pure functions, any thread.

#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace upload::testserver {

[[nodiscard]] std::string base64(std::string_view bytes);
/// Nothing if the text is no base64 (RFC 4648, with padding).
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);

/// The checksum of an image as ovirt-imageio defines it: the digest of the digests of its blocks.
/// Here for the algorithms that OpenSSL has with the same length.
class BlockChecksum {
 public:
  [[nodiscard]] static std::vector<std::string> algorithms();
  explicit BlockChecksum(const std::string& algorithm) : algorithm_(algorithm) {}

  void add(std::span<const char> block);
  /// In hexadecimal.
  [[nodiscard]] std::string finish() const;

 private:
  std::string algorithm_, digests_;
};

/// 16 bytes.
[[nodiscard]] std::string md5(std::span<const char> data);
/// 32 bytes.
[[nodiscard]] std::string hmac_sha256(std::string_view key, std::string_view text);
/// CRC-64/NVME, which Azure Storage uses: 8 bytes, the least significant first.
[[nodiscard]] std::string crc64(std::span<const char> data);

}  // namespace upload::testserver
