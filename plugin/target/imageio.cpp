// SPDX-License-Identifier: BSD-3-Clause
//
// The images API of ovirt-imageio: PUT with Content-Range for data, PATCH
// with a JSON text for zero and flush, GET with Range, GET .../extents.
//
// Nothing a server sends is trusted: JSON of another shape, sizes beyond
// int64 and extents with gaps are kMalformed. Unknown members and features
// are ignored, as a newer server may have them.

#include "target/imageio.h"

#include <sys/un.h>

#include <algorithm>
#include <cinttypes>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "base/redact.h"
#include "target/imageio_extents.h"
#include "target/imageio_json.h"
#include "target/reply.h"

namespace upload::target {

namespace {

using nlohmann::json;

constexpr uint64_t kMaxOptions = uint64_t{64} << 10;
// More connections than this are never useful; it also keeps lies in bounds.
constexpr uint64_t kMaxLimit = 1024;

// max_readers or max_writers, 1 when missing.
Result<unsigned> limit(const json& options, const char* key) {
  if (!options.contains(key)) return 1U;
  const std::optional<uint64_t> value = number_in(options, key, 1);
  if (!value) return malformed(std::string(key) + " is not a positive number");
  return static_cast<unsigned>(std::min(*value, kMaxLimit));
}

class Imageio final : public Target {
 public:
  explicit Imageio(http::Url url) : url_(std::move(url)) {}

  http::Request inquire() const override {
    http::Request request;
    request.method = http::Method::kOptions;
    request.target = url_.target();
    request.max_reply = kMaxOptions;
    request.what = "OPTIONS";
    return request;
  }

  Result<Capabilities> read_offer(const http::Reply& reply) const override;

  // imageio answers it for the ticket "*".
  std::optional<http::Request> inquire_without_ticket() const override {
    http::Request request = inquire();
    request.target = url_.path.substr(0, url_.path.rfind('/') + 1) + "*";
    request.what = "OPTIONS without a ticket";
    return request;
  }

  Status check_offers_socket(const http::Reply& reply,
                             const std::string& unix_socket) const override {
    if (Status status = classify(reply, 200); !status.ok()) return status;
    const Result<Capabilities> offered = read_offer(reply);
    if (!offered.ok()) return offered.status();
    if (offered.value().unix_socket != unix_socket)
      return malformed("OPTIONS does not name the socket that it came from");
    return {};
  }

  // imageio refuses the method with 405, says Connection: close and closes, touching
  // nothing. That is about this one connection (RFC 9110, section 7.6.1), so a reverse
  // proxy does not pass it on.
  std::optional<http::Request> probe_direct() const override {
    http::Request request;
    request.method = http::Method::kPost;
    request.target = url_.target();
    request.headers = {"Content-Type: application/octet-stream"};
    request.text = "x";
    request.what = "POST";
    return request;
  }

  Result<bool> read_direct(const http::Reply& reply) const override {
    if (Status status = classify(reply, 405); !status.ok())
      return status.while_doing("POST, which is to be refused");
    return reply.last;
  }

  http::Request write(ByteRange range, std::vector<http::BodyPart> parts,
                      bool flush) const override {
    http::Request request;
    request.method = http::Method::kPut;
    // Without it the server would flush.
    request.target = url_.target("", flush ? "flush=y" : "flush=n");
    request.headers = {
        format("Content-Range: bytes %" PRIu64 "-%" PRIu64 "/*", range.offset, range.last()),
        "Content-Type: application/octet-stream"};
    request.parts = std::move(parts);
    request.what = describe("write", range);
    return request;
  }

  http::Request zero(ByteRange range, bool flush) const override {
    return patch(
        {{"op", "zero"}, {"offset", range.offset}, {"size", range.length}, {"flush", flush}},
        describe("zero", range));
  }

  http::Request flush() const override { return patch({{"op", "flush"}}, "flush"); }

  Status check_change(const http::Reply& reply) const override { return classify(reply, 200); }

  http::Request read(ByteRange range, void* sink) const override {
    return read_range(url_.target(), range, sink);
  }

  Status check_read(const http::Reply& reply, ByteRange range) const override {
    return check_partial(reply, range);
  }

  std::unique_ptr<ExtentsReader> extents_reader(uint64_t size) const override {
    return std::make_unique<ImageioExtents>(size);
  }

  http::Request extents(ExtentsReader& reader) const override {
    http::Request request;
    request.target = url_.target("/extents", "context=zero");
    request.body_sink = &reader;
    request.what = "extents";
    return request;
  }

  Status check_extents(const http::Reply& reply) const override { return classify(reply, 200); }

 private:
  http::Request patch(const json& text, std::string what) const {
    http::Request request;
    request.method = http::Method::kPatch;
    request.target = url_.target();
    request.headers = {"Content-Type: application/json"};
    request.text = text.dump();
    request.what = std::move(what);
    return request;
  }

  const http::Url url_;
};

Result<Capabilities> Imageio::read_offer(const http::Reply& reply) const {
  // Servers from before OPTIONS.
  if (reply.status == 405 || reply.status == 204) return Capabilities();
  if (Status status = classify(reply, 200); !status.ok()) return status;
  const json options = json::parse(reply.body, nullptr, false);
  if (!options.is_object()) return malformed("OPTIONS is not a JSON object");

  Capabilities capabilities;
  const auto features = options.find("features");
  if (features == options.end() || !features->is_array())
    return malformed("OPTIONS has no list of features");
  for (const json& feature : *features) {
    if (feature == "extents") capabilities.can_extents = true;
    if (feature == "zero") capabilities.can_zero = true;
    if (feature == "flush") capabilities.traits.durability = Durability::kOnFlush;
  }
  const Result<unsigned> readers = limit(options, "max_readers");
  if (!readers.ok()) return readers.status();
  const Result<unsigned> writers = limit(options, "max_writers");
  if (!writers.ok()) return writers.status();
  capabilities.max_readers = readers.value();
  capabilities.max_writers = writers.value();

  const auto socket = options.find("unix_socket");
  if (socket != options.end() && !socket->is_null()) {
    if (!socket->is_string()) return malformed("unix_socket is not a string");
    std::string path = socket->get<std::string>();
    if (!path.empty() && path[0] == '\0') path[0] = '@';
    if (path.find('\0') != path.npos) return malformed("unix_socket has a NUL in it");
    if (path.size() >= sizeof(sockaddr_un::sun_path)) return malformed("unix_socket is too long");
    capabilities.unix_socket = path;
  }
  // A ticket for reading only has no PUT.
  const std::string& allow = reply.headers.get("Allow");
  capabilities.can_write = allow.empty() || allow.find("PUT") != std::string::npos;
  return capabilities;
}

}  // namespace

std::unique_ptr<Target> make_imageio(const http::Url& url, const TargetOptions&) {
  return std::make_unique<Imageio>(url);
}

}  // namespace upload::target
