// SPDX-License-Identifier: BSD-3-Clause
//
// Checksums by OpenSSL, and the one that it does not have.
//
// Threads: no state but constant tables. Errors: OpenSSL fails here only when memory is out, which
// gives an empty text.

#include "checksums.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <cstdio>
#include <vector>

namespace upload::testserver {

namespace {

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::array<std::uint64_t, 256> make_crc_table() {
  constexpr std::uint64_t kReflectedPolynomial = 0x9A6C9329AC4BC9B5;
  std::array<std::uint64_t, 256> table{};
  for (std::uint64_t i = 0; i < table.size(); ++i) {
    std::uint64_t value = i;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value & 1) != 0 ? value >> 1 ^ kReflectedPolynomial : value >> 1;
    }
    table[i] = value;
  }
  return table;
}

std::string digest(const std::string& algorithm, std::span<const char> data) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out;
  unsigned length = 0;
  EVP_Digest(data.data(), data.size(), out.data(), &length,
             EVP_get_digestbyname(algorithm.c_str()), nullptr);
  return {reinterpret_cast<const char*>(out.data()), length};
}

}  // namespace

std::string base64(std::string_view bytes) {
  std::vector<unsigned char> out(4 * ((bytes.size() + 2) / 3) + 1);
  const int length = EVP_EncodeBlock(out.data(), bytes_of(bytes), static_cast<int>(bytes.size()));
  return {reinterpret_cast<const char*>(out.data()), static_cast<std::size_t>(length)};
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) {
    return std::nullopt;
  }
  std::vector<unsigned char> out(text.size());
  const int length = EVP_DecodeBlock(out.data(), bytes_of(text), static_cast<int>(text.size()));
  if (length < 0) {
    return std::nullopt;
  }
  // OpenSSL counts what the padding stands for as zeroes.
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  return std::string(reinterpret_cast<const char*>(out.data()),
                     static_cast<std::size_t>(length) - padding);
}

std::vector<std::string> BlockChecksum::algorithms() {
  return {"md5", "sha1", "sha256", "sha512"};
}

void BlockChecksum::add(std::span<const char> block) { digests_ += digest(algorithm_, block); }

std::string BlockChecksum::finish() const {
  std::string hex;
  for (const char byte : digest(algorithm_, digests_)) {
    std::array<char, 3> text;
    std::snprintf(text.data(), text.size(), "%02x", static_cast<unsigned char>(byte));
    hex += text.data();
  }
  return hex;
}

std::string md5(std::span<const char> data) { return digest("md5", data); }

std::string hmac_sha256(std::string_view key, std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out;
  unsigned length = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes_of(text), text.size(),
       out.data(), &length);
  return {reinterpret_cast<const char*>(out.data()), length};
}

std::string crc64(std::span<const char> data) {
  static const auto kTable = make_crc_table();
  std::uint64_t value = ~std::uint64_t{0};
  for (const char byte : data) {
    value = kTable[(value ^ static_cast<unsigned char>(byte)) & 0xFF] ^ value >> 8;
  }
  value = ~value;
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes += static_cast<char>(value >> 8 * i & 0xFF);
  }
  return bytes;
}

}  // namespace upload::testserver
