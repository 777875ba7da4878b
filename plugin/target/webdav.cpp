// SPDX-License-Identifier: BSD-3-Clause
//
// PUT with Content-Range for data, GET with Range, HEAD for the size. Zeroes are sent, there are
// no extents, and nobody is told when the server's data reach its disk.
//
// A server that does not know Content-Range takes a part for the whole, and would cut the disk off.
// So prepare() tries it with a file of its own beside the disk.
//
// A PUT that is broken off leaves its first part behind, or none: the fate of a change that fails
// is unknown until it is made again.

#include "target/webdav.h"

#include <array>
#include <cinttypes>
#include <cstdlib>
#include <cstring>

#include "base/format.h"
#include "base/parse.h"
#include "base/random.h"
#include "target/reply.h"

namespace upload::target {

namespace {

// What a slow server writes out within the time-out.
constexpr uint64_t kMaxZero = uint64_t{16} << 20;

bool is_success(const http::Reply& reply) { return reply.status >= 200 && reply.status < 300; }

http::Request put_range(std::string target, ByteRange range, std::vector<http::BodyPart> parts,
                        std::string what) {
  http::Request request;
  request.method = http::Method::kPut;
  request.target = std::move(target);
  request.headers = {
      format("Content-Range: bytes %" PRIu64 "-%" PRIu64 "/*", range.offset, range.last()),
      "Content-Type: application/octet-stream"};
  request.parts = std::move(parts);
  request.what = std::move(what);
  return request;
}

class Webdav final : public Target {
 public:
  Webdav(http::Url url, const TargetOptions& options) : url_(std::move(url)), options_(options) {}

  http::Request inquire() const override {
    http::Request request;
    request.method = http::Method::kHead;
    request.target = url_.target();
    request.what = "HEAD";
    return request;
  }
  Result<Capabilities> read_offer(const http::Reply& reply) const override;
  std::unique_ptr<Preparation> prepare(const Capabilities& offered, uint64_t size) const override;

  http::Request write(ByteRange range, std::vector<http::BodyPart> parts, bool) const override {
    return put_range(url_.target(), range, std::move(parts), describe("write", range));
  }
  Status check_change(const http::Reply& reply) const override {
    // Nobody made this file again but the server, since it was gone.
    if (reply.status == 201)
      return {Kind::kDenied, "HTTP status 201: the file was gone, with all that was in it"};
    return classify(reply, 204);
  }

  http::Request read(ByteRange range, void* sink) const override {
    return read_range(url_.target(), range, sink);
  }
  Status check_read(const http::Reply& reply, ByteRange range) const override {
    return check_partial(reply, range);
  }

  // None of these is offered.
  http::Request zero(ByteRange, bool) const override { abort(); }
  http::Request flush() const override { abort(); }
  std::unique_ptr<ExtentsReader> extents_reader(uint64_t) const override { abort(); }
  http::Request extents(ExtentsReader&) const override { abort(); }
  Status check_extents(const http::Reply&) const override { abort(); }

 private:
  const http::Url url_;
  const TargetOptions options_;
};

Result<Capabilities> Webdav::read_offer(const http::Reply& reply) const {
  Capabilities offered;
  offered.missing = reply.status == 404 && options_.create;
  if (reply.status == 404 && !options_.create)
    return Status(Kind::kDenied, "HTTP status 404: there is no such file; create=true makes one");
  if (!offered.missing) {
    if (Status status = classify(reply, 200); !status.ok()) return status;
    const auto length = parse_number(reply.headers.get("Content-Length"));
    if (!length) return malformed("HEAD without the length of the file");
    offered.size = *length;
  }
  offered.traits = {.durability = Durability::kUnknown, .max_zero = kMaxZero, .persists = true};
  constexpr unsigned kMany = 1024;
  offered.max_readers = offered.max_writers = kMany;
  return offered;
}

// --- Does the server know Content-Range? ----------------------------------------

// Writes a small file beside the disk, then a part of it, and reads it back. Creates the disk if it
// is missing, which a part at its end does.
class RangeProbe final : public Preparation {
 public:
  // `disk`: the target of requests for it; empty `create`: it is there.
  RangeProbe(std::string probe, std::optional<http::Request> create)
      : probe_(std::move(probe)), create_(std::move(create)) {}

  std::optional<http::Request> next() override;
  Status read(const http::Reply& reply) override;
  std::optional<http::Request> clean_up() override;

 private:
  enum class Step { kWhole, kPart, kRead, kRemove, kCreate, kDone };
  static constexpr std::string_view kWhole = "0123456789abcdef";
  static constexpr ByteRange kPartRange{4, 4};
  static constexpr std::string_view kPart = "part";
  static constexpr std::string_view kExpected = "0123part89abcdef";

  Status read_part(const http::Reply& reply) const;

  const std::string probe_;
  const std::optional<http::Request> create_;
  Step step_ = Step::kWhole;
  bool there_ = false;  // the probe's file may be there
  std::array<char, kWhole.size()> found_ = {};
};

std::optional<http::Request> RangeProbe::next() {
  switch (step_) {
    case Step::kWhole: {
      http::Request request;
      request.method = http::Method::kPut;
      request.target = probe_;
      request.headers = {"Content-Type: application/octet-stream"};
      request.parts = {{kWhole.data(), kWhole.size()}};
      request.what = "write a file to probe the server";
      there_ = true;
      return request;
    }
    case Step::kPart:
      return put_range(probe_, kPartRange, {{kPart.data(), kPart.size()}}, "write a part of it");
    case Step::kRead: return read_range(probe_, {0, found_.size()}, found_.data());
    case Step::kRemove: return clean_up();
    case Step::kCreate:
      if (create_) return create_;
      break;
    case Step::kDone: break;
  }
  return std::nullopt;
}

Status RangeProbe::read(const http::Reply& reply) {
  switch (step_) {
    case Step::kWhole:
      if (!is_success(reply))
        return classify(reply, 201)
            .while_doing(
                "could not write a small file beside the disk, to find out whether the server "
                "takes "
                "parts of one");
      step_ = Step::kPart;
      return {};
    case Step::kPart:
      if (!is_success(reply))
        return {Kind::kInvalid,
                "the server does not take parts of a file (PUT with Content-Range): " +
                    classify(reply, 204).text()};
      step_ = Step::kRead;
      return {};
    case Step::kRead: step_ = Step::kRemove; return read_part(reply);
    case Step::kRemove:
      there_ = false;  // or else it can't be removed
      step_ = Step::kCreate;
      return {};
    case Step::kCreate:
      step_ = Step::kDone;
      // It is there by now.
      if (reply.status == 412) return {};
      if (!is_success(reply))
        return classify(reply, 201).while_doing("could not create the file");
      return {};
    case Step::kDone: break;
  }
  return {};
}

Status RangeProbe::read_part(const http::Reply& reply) const {
  if (check_partial(reply, {0, found_.size()}).ok() &&
      std::string_view(found_.data(), found_.size()) == kExpected)
    return {};
  return {Kind::kInvalid,
          "the server takes a part of a file for the whole (it ignores Content-Range), and would "
          "cut the disk off"};
}

std::optional<http::Request> RangeProbe::clean_up() {
  if (!there_) return std::nullopt;
  http::Request request;
  request.method = http::Method::kDelete;
  request.target = probe_;
  request.what = "remove the file that probed the server";
  return request;
}

std::unique_ptr<Preparation> Webdav::prepare(const Capabilities& offered, uint64_t size) const {
  std::optional<http::Request> create;
  static constexpr char kZero = 0;
  if (offered.missing) {
    create = put_range(url_.target(), {size - 1, 1}, {{&kZero, 1}}, "create the file");
    // One that comes late does no harm to the file of a later start.
    create->headers.emplace_back("If-None-Match: *");
  }
  // Two that start at the same time must not meet.
  const auto number = static_cast<uint64_t>(random_between(0, 0x1p52));
  return std::make_unique<RangeProbe>(url_.target(format(".probe-%" PRIx64, number)),
                                      std::move(create));
}

}  // namespace

std::unique_ptr<Target> make_webdav(const http::Url& url, const TargetOptions& options) {
  return std::make_unique<Webdav>(url, options);
}

}  // namespace upload::target
