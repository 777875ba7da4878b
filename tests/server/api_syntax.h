// SPDX-License-Identifier: BSD-3-Clause
//
// What requests of the images API look like. Pure functions, any thread.
// Source: docs/images.md of github.com/oVirt/ovirt-imageio.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "byte_range.h"
#include "http_syntax.h"

namespace upload::testserver {

enum class Resource { image, extents, checksum, algorithms, unknown };

struct Route {
  Resource resource = Resource::unknown;
  std::string ticket_id{};  // may be empty
};
[[nodiscard]] Route parse_route(std::string_view path);

/// The first byte of a Content-Range; the rest is checked and then ignored.
[[nodiscard]] Parsed<std::uint64_t> parse_content_range(std::string_view text);

/// `flush=` of a PUT's query.
[[nodiscard]] Parsed<bool> parse_flush(const Target& target);

/// `algorithm=` and `block_size=` of a checksum's query. The real daemon's default algorithm is
/// blake2b with 32 bytes, which OpenSSL does not have.
struct ChecksumQuery {
  std::string algorithm = "sha256";
  std::uint64_t block_size = std::uint64_t{4} << 20;
};
[[nodiscard]] Parsed<ChecksumQuery> parse_checksum(const Target& target);

/// The JSON of a PATCH.
struct Patch {
  enum class Kind { zero, flush };
  Kind kind = Kind::flush;
  ByteRange range{};   // of zero; may overflow
  bool flush = false;  // of zero
};
[[nodiscard]] Parsed<Patch> parse_patch(std::string_view json);

}  // namespace upload::testserver
