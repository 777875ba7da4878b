// SPDX-License-Identifier: BSD-3-Clause
//
// Target: the protocol that an upload server speaks. It builds requests and
// reads replies; it does no I/O and keeps no state but the URL. Constant once
// made, so any thread may use it.
//
// A new protocol is a class like the one in imageio.cpp and a row in the
// table of target.cpp.

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/byte_range.h"
#include "base/status.h"
#include "http/message.h"
#include "http/url.h"

namespace upload::target {

// When a change is stable that the server has acknowledged.
enum class Durability {
  kOnFlush,  // after a flush on the connection that carried it
  kOnReply,  // at once; each change asks for it
};

// What the server offers for this volume.
struct Capabilities {
  bool can_write = true;
  Durability durability = Durability::kOnReply;
  bool can_zero = false;
  bool can_extents = false;
  unsigned max_readers = 1;
  unsigned max_writers = 1;
  // A local way to the same server, as in Origin::unix_socket; may be empty, and is the
  // server's word only.
  std::string unix_socket;
};

struct Extent {
  ByteRange range;
  bool zero = false;
  bool hole = false;
};

// Takes the body of the reply that lists the extents.
class ExtentsReader : public http::BodySink {
 public:
  // After the reply's status was found to be good.
  [[nodiscard]] virtual Result<std::vector<Extent>> finish(const http::Reply&) = 0;
};

// The whole list of extents has to come in so many times the time-out: a server may need
// long for it, but one that sends it drop by drop must not keep the process from its end.
inline constexpr int kLongestList = 5;

class Target {
 public:
  virtual ~Target() = default;

  [[nodiscard]] virtual http::Request options() const = 0;
  [[nodiscard]] virtual Result<Capabilities> read_options(const http::Reply&) const = 0;

  // The same question about no disk: nothing in it is secret. For whoever answers at a
  // socket that a server has named.
  [[nodiscard]] virtual http::Request options_without_ticket() const = 0;
  // Is the reply to that an image server's that offers this socket, in the form of
  // Capabilities::unix_socket, itself?
  [[nodiscard]] virtual Status check_offers_socket(const http::Reply&,
                                                   const std::string& unix_socket) const = 0;

  // A request that changes nothing and whose reply tells whether our connection is one
  // of the server's, or ends at a reverse proxy in front of it. Nothing: the protocol has
  // no such request.
  [[nodiscard]] virtual std::optional<http::Request> probe_direct() const { return std::nullopt; }
  // True: our connection is the server's. False: it is not. A failure: the reply does
  // not tell.
  [[nodiscard]] virtual Result<bool> read_direct(const http::Reply&) const {
    return Status(Kind::kInvalid, "the protocol has no way to ask");
  }

  // `parts` together are range.length bytes. `flush`: the reply comes when
  // this change is stable.
  [[nodiscard]] virtual http::Request write(ByteRange range, std::vector<http::BodyPart> parts,
                                            bool flush) const = 0;
  [[nodiscard]] virtual http::Request zero(ByteRange range, bool flush) const = 0;
  [[nodiscard]] virtual http::Request flush() const = 0;
  // Judges the reply to write, zero or flush.
  [[nodiscard]] virtual Status check_change(const http::Reply&) const = 0;

  // `sink` is range.length bytes.
  [[nodiscard]] virtual http::Request read(ByteRange range, void* sink) const = 0;
  [[nodiscard]] virtual Status check_read(const http::Reply&, ByteRange range) const = 0;

  // For one reply. `size` of the disk, in bytes; INT64_MAX if it is not known yet.
  [[nodiscard]] virtual std::unique_ptr<ExtentsReader> extents_reader(uint64_t size) const = 0;
  // The reply is read while it comes: the reader has to live until it is there.
  [[nodiscard]] virtual http::Request extents(ExtentsReader& reader) const = 0;
  // In order, without gaps, from 0 on; their sum is the server's word on the
  // size of the image. Short ones may have become data (target/extent_list.h).
  [[nodiscard]] virtual Result<std::vector<Extent>> read_extents(const http::Reply&,
                                                                 ExtentsReader& reader) const = 0;
};

// "imageio", "imageio, webdav", ...
[[nodiscard]] std::string target_names();

// `name` is one of target_names(), or "auto". Nothing for another name.
[[nodiscard]] std::unique_ptr<Target> make_target(const std::string& name, const http::Url& url);

}  // namespace upload::target
