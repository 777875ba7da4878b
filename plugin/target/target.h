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
#include "base/clock.h"
#include "base/status.h"
#include "http/credentials.h"
#include "http/message.h"
#include "http/url.h"
#include "target/disk_lease.h"

namespace upload::target {

// When a change is stable that the server has acknowledged.
enum class Durability {
  kOnFlush,  // after a flush on the connection that carried it
  kOnReply,  // at once; each change asks for it
  kUnknown,  // when the server's kernel has written it, which nobody is told
};

// What tells one protocol, or one server of it, from another for those who send changes.
struct Traits {
  Durability durability = Durability::kOnReply;
  // Changes begin and end at multiples of it. A power of two, at most 64 KiB; in bytes.
  uint32_t alignment = 1;
  // Of one request, in bytes.
  uint64_t max_write = UINT64_MAX;
  // Likewise. Without a limit of the protocol's: so much that a server that has to write zeroes
  // out does it within the time-out, and that a large disk takes few requests.
  uint64_t max_zero = uint64_t{256} << 20;
  // What fails for a reason that passes is tried again, with a replay log or without: no connection
  // holds anything that could be lost with it, and servers of this protocol refuse requests that
  // come too fast, or close connections, as a matter of course.
  bool persists = false;
};

// What the server offers for this volume.
struct Capabilities {
  // There is no such disk, and it is to be created; all else is what it will be.
  bool missing = false;
  // Of the disk, in bytes; nothing: it is to be found out by reading.
  std::optional<uint64_t> size;
  bool can_write = true;
  Traits traits;
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

// Takes the bodies of the replies that list the extents: one, or several for a list that comes in
// pages.
class ExtentsReader : public http::BodySink {
 public:
  // After a reply whose status was found to be good. True: there is another page, and it is to be
  // asked for.
  [[nodiscard]] virtual Result<bool> finish_page(const http::Reply&) = 0;
  // After the last.
  [[nodiscard]] virtual std::vector<Extent> take_extents() = 0;
};

// Requests by which a disk is made ready to be written, one after another. One thread at a time.
class Preparation {
 public:
  virtual ~Preparation() = default;
  // The next one; nothing: the disk is ready.
  [[nodiscard]] virtual std::optional<http::Request> next() = 0;
  // The reply to it. A failure: the disk can't be made ready.
  [[nodiscard]] virtual Status read(const http::Reply&) = 0;
  // After a failure, also of a connection: what is to be taken back, if anything. Its reply does not
  // matter.
  [[nodiscard]] virtual std::optional<http::Request> clean_up() { return std::nullopt; }
};

struct TargetOptions {
  bool create = false;    // a disk that is not there
  bool checksum = false;  // each write tells what its data must be
  // A random GUID (RFC 9562), which a lease is to have and which each change shows; empty: there is
  // to be no lease.
  std::string lease_id{};
};

// The whole list of extents has to come in so many times the time-out: a server may need
// long for it, but one that sends it drop by drop must not keep the process from its end.
inline constexpr int kLongestList = 5;

class Target {
 public:
  virtual ~Target() = default;

  // How long a request may make no progress, unless the user says otherwise.
  [[nodiscard]] virtual Duration default_timeout() const { return std::chrono::seconds(60); }

  // Asks what the server offers for this disk; it changes nothing, and any answer shows that the
  // server is alive.
  [[nodiscard]] virtual http::Request inquire() const = 0;
  [[nodiscard]] virtual Result<Capabilities> read_offer(const http::Reply&) const = 0;

  // The same question about no disk: nothing in it is secret. For whoever answers at a
  // socket that a server has named. Nothing: servers of this protocol name none.
  [[nodiscard]] virtual std::optional<http::Request> inquire_without_ticket() const {
    return std::nullopt;
  }
  // Is the reply to that an image server's that offers this socket, in the form of
  // Capabilities::unix_socket, itself?
  [[nodiscard]] virtual Status check_offers_socket(const http::Reply&,
                                                   const std::string& /* unix_socket */) const {
    return {Kind::kInvalid, "the protocol has no unix sockets"};
  }

  // Creates a disk of so many bytes, in one step that leaves alone what may be there meanwhile.
  // Nothing: the protocol has no such step, and prepare() creates.
  [[nodiscard]] virtual std::optional<http::Request> create(uint64_t /* size */) const {
    return std::nullopt;
  }
  // ok() also if the disk is there already.
  [[nodiscard]] virtual Status check_create(const http::Reply&) const { return {}; }

  // The lease with TargetOptions::lease_id; null: the protocol has no leases.
  [[nodiscard]] virtual std::unique_ptr<DiskLease> lease() const { return nullptr; }

  // What makes a disk of that size ready to be written; null: nothing has to be done. `offered` as
  // read_offer() has said.
  [[nodiscard]] virtual std::unique_ptr<Preparation> prepare(const Capabilities& /* offered */,
                                                             uint64_t /* size */) const {
    return nullptr;
  }

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
  // Only with Capabilities::can_zero.
  [[nodiscard]] virtual http::Request zero(ByteRange range, bool flush) const = 0;
  // Only with Durability::kOnFlush.
  [[nodiscard]] virtual http::Request flush() const = 0;
  // Judges the reply to write, zero or flush.
  [[nodiscard]] virtual Status check_change(const http::Reply&) const = 0;

  // `sink` is range.length bytes.
  [[nodiscard]] virtual http::Request read(ByteRange range, void* sink) const = 0;
  [[nodiscard]] virtual Status check_read(const http::Reply&, ByteRange range) const = 0;

  // These only with Capabilities::can_extents. For one list: `size` of the disk, in bytes; INT64_MAX
  // if it is not known yet. What is read is in order, without gaps, from 0 on; its sum is the
  // server's word on the size of the image. Short extents may have become data
  // (target/extent_list.h).
  [[nodiscard]] virtual std::unique_ptr<ExtentsReader> extents_reader(uint64_t size) const = 0;
  // The next page. The reply is read while it comes: the reader has to live until it is there.
  [[nodiscard]] virtual http::Request extents(ExtentsReader& reader) const = 0;
  [[nodiscard]] virtual Status check_extents(const http::Reply&) const = 0;
};

// Their names, with commas between.
[[nodiscard]] std::string target_names();
[[nodiscard]] bool is_target(const std::string& name);
// Null for what is no name.
[[nodiscard]] std::unique_ptr<Target> make_target(const std::string& name, const http::Url& url,
                                                  const TargetOptions& options = {});
// Does that target have what the options want?
[[nodiscard]] Status check_options(const std::string& name, const TargetOptions& options);

// With target=auto: which one the URL tells of; empty: the reply to who_are_you() tells.
[[nodiscard]] std::string name_for(const http::Url& url);
[[nodiscard]] http::Request who_are_you(const http::Url& url);
[[nodiscard]] std::string name_by(const http::Reply& reply);

// Requests to that target are signed with a user's key (make_signature), instead of showing name
// and password.
[[nodiscard]] bool signs_requests(const std::string& name);
// Null: `password` is no key. The clock outlives it.
[[nodiscard]] http::CredentialPtr make_signature(const std::string& name, const std::string& user,
                                                 const std::string& password, const Clock& clock);

}  // namespace upload::target
