// SPDX-License-Identifier: BSD-3-Clause
//
// Put Page for data and for zeroes, Get Page Ranges for extents, HEAD for everything that is to
// be known. What is acknowledged is stable, so there is no flush, and a change that was lost on
// its way is made again.
//
// A managed disk is longer than its image by a footer of 512 bytes (target/vhd_footer.h), which
// users don't see; prepare() writes it where there is none.
//
// Nothing a server sends is trusted. What a refusal means is told by x-ms-error-code: the status
// alone says too little, and a reply to HEAD has no body.

#include "target/azure.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/format.h"
#include "base/parse.h"
#include "base/percent.h"
#include "base/redact.h"
#include "target/page_list.h"
#include "target/reply.h"
#include "target/vhd_footer.h"

namespace upload::target {

namespace {

constexpr uint32_t kPage = 512;
constexpr uint64_t kMaxWrite = uint64_t{4} << 20;
// The server clears any number of pages in one request.
constexpr uint64_t kMaxZero = uint64_t{1} << 40;
// A request may take minutes at the server, 120 s were seen.
constexpr Duration kTimeout = std::chrono::seconds(300);

struct Row {
  std::string_view code;
  Kind kind;
  const char* meaning;
};

constexpr const char* kBadSignature =
    "the SAS, the key or the token is wrong or has expired, or does not allow this";
constexpr const char* kLeased = "somebody else has a lease on the blob";

// https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
constexpr Row kRows[] = {
    {"ServerBusy", Kind::kBusy, "the server wants fewer requests"},
    {"OperationTimedOut", Kind::kUnavailable, "the server has given the operation up"},
    {"InternalError", Kind::kUnavailable, "the server failed"},
    {"AuthenticationFailed", Kind::kDenied, kBadSignature},
    {"AuthorizationFailure", Kind::kDenied, kBadSignature},
    {"AuthorizationPermissionMismatch", Kind::kDenied, "the SAS does not allow this (sp=)"},
    {"InvalidAuthenticationInfo", Kind::kUnauthorized, "the credentials are malformed"},
    {"LeaseIdMissing", Kind::kDenied, kLeased},
    {"LeaseIdMismatchWithBlobOperation", Kind::kDenied, kLeased},
    {"LeaseNotPresentWithBlobOperation", Kind::kDenied, "the lease on the blob has ended"},
    {"LeaseLost", Kind::kDenied, "the lease on the blob has ended"},
    {"BlobNotFound", Kind::kDenied, "there is no such blob"},
    {"ContainerNotFound", Kind::kDenied, "there is no such container"},
    {"InvalidBlobType", Kind::kDenied, "it is not a page blob"},
    // It was not applied, and is made again.
    {"Md5Mismatch", Kind::kLost, "the data were damaged on their way"},
    {"RequestBodyTooLarge", Kind::kRejected, "the request is too large for the server"},
    {"InvalidPageRange", Kind::kRejected, "the range is not one of whole pages of the blob"},
    {"InvalidRange", Kind::kRejected, "the range is beyond the end of the blob"},
};

// What the server says of it, for people, from the XML of an error's body.
std::string message_in(const std::string& body) {
  std::string message;
  for (const char* name : {"Message", "AuthenticationErrorDetail"}) {
    const std::string tag = std::string("<") + name + ">";
    const size_t start = body.find(tag);
    if (start == body.npos) continue;
    const size_t text = start + tag.size();
    if (!message.empty()) message += " ";
    message += body.substr(text, std::min(body.find("</", text), body.size()) - text);
  }
  return excerpt(message.empty() ? body : message);
}

// Is it what is said to those whose lease it is not, or no more?
bool is_about_leases(const std::string& code) { return code.starts_with("Lease"); }

Status judge(const http::Reply& reply, int success) {
  const Status plain = classify(reply, success);
  const std::string& code = reply.headers.get("x-ms-error-code");
  if (plain.ok() || code.empty()) return plain;
  Kind kind = plain.kind();
  std::string text = format("HTTP status %d, %s", reply.status, excerpt(code).c_str());
  for (const Row& row : kRows) {
    if (row.code != code) continue;
    kind = row.kind;
    text += std::string(": ") + row.meaning;
  }
  const std::string message = message_in(reply.body);
  if (!message.empty()) text += ": " + message;
  Status status(kind, text);
  status.set_retry_after(plain.retry_after());
  return status;
}

// In Base64 (RFC 1864); null data: zeroes. Empty: this machine does not do it.
std::string md5_of(const std::vector<http::BodyPart>& parts) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  if (!context) throw std::bad_alloc();
  if (EVP_DigestInit_ex(context.get(), EVP_md5(), nullptr) != 1) return "";
  static constexpr std::array<char, 4096> kZeroes = {};
  for (const http::BodyPart& part : parts) {
    if (part.data != nullptr) {
      EVP_DigestUpdate(context.get(), part.data, part.length);
      continue;
    }
    for (uint64_t left = part.length; left > 0;) {
      const size_t n = std::min<uint64_t>(left, kZeroes.size());
      EVP_DigestUpdate(context.get(), kZeroes.data(), n);
      left -= n;
    }
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest = {};
  unsigned length = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &length);
  return base64({reinterpret_cast<const char*>(digest.data()), length});
}

// What a SAS allows (sp=), such as "rw"; nothing: the URL has none.
std::optional<std::string> permissions(const http::Url& url) {
  const std::string query = "&" + url.query;
  const size_t at = query.find("&sp=");
  if (at == query.npos) return std::nullopt;
  return query.substr(at + 4, query.find('&', at + 4) - at - 4);
}

bool allows(const http::Url& url, char permission) {
  return permissions(url).value_or(std::string(1, permission)).find(permission) !=
         std::string::npos;
}

// https://learn.microsoft.com/azure/virtual-machines/windows/disks-upload-vhd-to-managed-disk-cli
bool is_managed_host(const http::Url& url) { return url.host.starts_with("md-"); }

class PageBlob final : public Target {
 public:
  PageBlob(http::Url url, bool managed, const TargetOptions& options)
      : url_(std::move(url)), managed_(managed), options_(options) {}

  Duration default_timeout() const override { return kTimeout; }

  http::Request inquire() const override { return make(http::Method::kHead, "", "HEAD"); }
  Result<Capabilities> read_offer(const http::Reply& reply) const override;

  std::optional<http::Request> create(uint64_t size) const override;
  Status check_create(const http::Reply& reply) const override {
    if (reply.headers.get("x-ms-error-code") == "BlobAlreadyExists") return {};
    return judge(reply, 201);
  }
  std::unique_ptr<Preparation> prepare(const Capabilities&, uint64_t size) const override;

  http::Request write(ByteRange range, std::vector<http::BodyPart> parts, bool) const override;
  http::Request zero(ByteRange range, bool) const override;
  http::Request flush() const override { abort(); }  // a reply means stable
  Status check_change(const http::Reply& reply) const override {
    Status status = judge(reply, 201);
    if (status.ok() || options_.lease_id.empty() ||
        !is_about_leases(reply.headers.get("x-ms-error-code")))
      return status;
    return {Kind::kClaimLost, "the claim was lost: " + status.text()};
  }
  std::unique_ptr<DiskLease> lease() const override;

  http::Request read(ByteRange range, void* sink) const override {
    http::Request request = read_range(url_.target(), range, sink);
    add_version(request);
    return request;
  }
  Status check_read(const http::Reply& reply, ByteRange range) const override {
    return reply.status == 206 ? check_partial(reply, range) : judge(reply, 206);
  }

  std::unique_ptr<ExtentsReader> extents_reader(uint64_t size) const override {
    return std::make_unique<PageList>(size);
  }
  http::Request extents(ExtentsReader& reader) const override;
  Status check_extents(const http::Reply& reply) const override { return judge(reply, 200); }

 private:
  static void add_version(http::Request& request) {
    request.headers.emplace_back("x-ms-version: 2021-12-02");
  }
  http::Request make(http::Method method, const std::string& parameter, std::string what) const;
  http::Request put_page(ByteRange range, const char* action, std::string what) const;

  // Each change shows the lease.
  void add_lease(http::Request& request) const {
    if (!options_.lease_id.empty())
      request.headers.push_back("x-ms-lease-id: " + options_.lease_id);
  }

  const http::Url url_;
  const bool managed_;
  const TargetOptions options_;

  friend class BlobLease;
};

http::Request PageBlob::make(http::Method method, const std::string& parameter,
                             std::string what) const {
  http::Request request;
  request.method = method;
  request.target = url_.target("", parameter);
  add_version(request);
  request.what = std::move(what);
  return request;
}

// --- What there is ----------------------------------------------------------

Result<Capabilities> PageBlob::read_offer(const http::Reply& reply) const {
  Capabilities offered;
  offered.missing = reply.headers.get("x-ms-error-code") == "BlobNotFound" && options_.create;
  if (!offered.missing) {
    Status status = judge(reply, 200);
    if (!status.ok() && !allows(url_, 'r'))
      return Status(status.kind(), status.text() +
                                       "; the SAS must allow to read, too: it has sp=" +
                                       excerpt(*permissions(url_)) + ", and sp=rw is needed");
    if (!status.ok()) return status;
    const std::string& type = reply.headers.get("x-ms-blob-type");
    if (type != "PageBlob")
      return Status(Kind::kInvalid, "it is no page blob: x-ms-blob-type is '" + excerpt(type) +
                                        "', and must be PageBlob");
    const auto length = parse_number(reply.headers.get("Content-Length"));
    if (!length) return malformed("HEAD without the length of the blob");
    if (managed_ && *length <= kVhdFooter)
      return Status(Kind::kInvalid,
                    format("a managed disk is longer than %" PRIu64 " bytes", *length));
    offered.size = managed_ ? *length - kVhdFooter : *length;
  }
  offered.can_write = allows(url_, 'w');
  offered.traits = {.durability = Durability::kOnReply,
                    .alignment = kPage,
                    .max_write = kMaxWrite,
                    .max_zero = kMaxZero,
                    .persists = true};
  offered.can_zero = true;
  offered.can_extents = true;
  // The service has no limit of its own.
  constexpr unsigned kMany = 1024;
  offered.max_readers = offered.max_writers = kMany;
  return offered;
}

std::optional<http::Request> PageBlob::create(uint64_t size) const {
  http::Request request = make(http::Method::kPut, "", "create the blob");
  request.headers.emplace_back("x-ms-blob-type: PageBlob");
  request.headers.push_back(format("x-ms-blob-content-length: %" PRIu64, size));
  // Without it an existing one would be wiped.
  request.headers.emplace_back("If-None-Match: *");
  request.headers.emplace_back("Content-Length: 0");
  return request;
}

http::Request PageBlob::extents(ExtentsReader& reader) const {
  const std::string& marker = static_cast<PageList&>(reader).marker();
  http::Request request = make(
      http::Method::kGet,
      "comp=pagelist" + (marker.empty() ? "" : "&marker=" + percent_encoded(marker)), "extents");
  request.body_sink = &reader;
  return request;
}

// --- Changes ----------------------------------------------------------------

http::Request PageBlob::put_page(ByteRange range, const char* action, std::string what) const {
  http::Request request = make(http::Method::kPut, "comp=page", std::move(what));
  request.headers.push_back(std::string("x-ms-page-write: ") + action);
  request.headers.push_back(
      format("x-ms-range: bytes=%" PRIu64 "-%" PRIu64, range.offset, range.last()));
  add_lease(request);
  return request;
}

http::Request PageBlob::write(ByteRange range, std::vector<http::BodyPart> parts, bool) const {
  http::Request request = put_page(range, "update", describe("write", range));
  request.headers.emplace_back("Content-Type: application/octet-stream");
  if (options_.checksum) request.headers.push_back("Content-MD5: " + md5_of(parts));
  request.parts = std::move(parts);
  return request;
}

http::Request PageBlob::zero(ByteRange range, bool) const {
  http::Request request = put_page(range, "clear", describe("zero", range));
  request.headers.emplace_back("Content-Length: 0");
  return request;
}

// --- The lease ------------------------------------------------------------------

// The text is kept in the blob's metadata, in Base64. Metadata are replaced as a whole, so the other
// ones are written again with it.
// Source: https://learn.microsoft.com/rest/api/storageservices/lease-blob
class BlobLease final : public DiskLease {
 public:
  explicit BlobLease(PageBlob blob) : blob_(std::move(blob)) {}

  Duration shortest() const override { return std::chrono::seconds(15); }
  Duration longest() const override { return std::chrono::seconds(60); }

  http::Request look() const override { return blob_.inquire(); }
  Result<Seen> read_look(const http::Reply& reply) const override;
  http::Request acquire(const Seen& seen, Duration time) const override {
    http::Request request = put("comp=lease", "acquire the lease");
    request.headers.emplace_back("x-ms-lease-action: acquire");
    request.headers.push_back(format("x-ms-lease-duration: %lld", seconds(time)));
    request.headers.push_back("x-ms-proposed-lease-id: " + id());
    request.headers.push_back("If-Match: " + seen.version);
    return request;
  }
  Result<bool> read_acquire(const http::Reply& reply) const override;
  http::Request renew() const override { return act("renew"); }
  http::Request release() const override { return act("release"); }
  http::Request write(const Seen& seen, const std::string& text) const override {
    http::Request request = put("comp=metadata", "write the record of the claim");
    request.headers.insert(request.headers.end(), seen.others.begin(), seen.others.end());
    request.headers.push_back(std::string(kField) + ": " + base64(text));
    blob_.add_lease(request);
    return request;
  }
  Status check(const http::Reply& reply) const override {
    const Status status = judge(reply, 200);
    if (status.ok() || !is_about_leases(reply.headers.get("x-ms-error-code"))) return status;
    return {Kind::kClaimLost, status.text()};
  }

 private:
  static constexpr std::string_view kPrefix = "x-ms-meta-";
  static constexpr std::string_view kField = "x-ms-meta-nbdkitupload";

  [[nodiscard]] const std::string& id() const { return blob_.options_.lease_id; }
  [[nodiscard]] http::Request put(const std::string& parameter, std::string what) const {
    http::Request request = blob_.make(http::Method::kPut, parameter, std::move(what));
    request.headers.emplace_back("Content-Length: 0");
    return request;
  }
  [[nodiscard]] http::Request act(const std::string& action) const {
    http::Request request = put("comp=lease", action + " the lease");
    request.headers.push_back("x-ms-lease-action: " + action);
    blob_.add_lease(request);
    return request;
  }

  const PageBlob blob_;
};

Result<DiskLease::Seen> BlobLease::read_look(const http::Reply& reply) const {
  if (Status status = judge(reply, 200); !status.ok()) return status;
  Seen seen;
  const std::string& state = reply.headers.get("x-ms-lease-state");
  seen.held = state == "leased" || state == "breaking";
  seen.version = reply.headers.get("ETag");
  if (seen.version.empty()) return malformed("HEAD without an ETag");
  seen.text = from_base64(reply.headers.get(kField));
  for (const auto& [name, value] : reply.headers)
    if (name.starts_with(kPrefix) && name != kField) seen.others.push_back(name + ": " + value);
  return seen;
}

Result<bool> BlobLease::read_acquire(const http::Reply& reply) const {
  const std::string& code = reply.headers.get("x-ms-error-code");
  if (code == "LeaseAlreadyPresent" || code == "ConditionNotMet" ||
      code == "LeaseIsBreakingAndCannotBeAcquired")
    return false;
  const Status status = judge(reply, 201);
  if (status.ok()) return true;
  // Such as on managed disks. What else is refused for good is not asked for again.
  const bool refused =
      reply.status >= 400 && reply.status < 500 && status.kind() != Kind::kUnavailable;
  return Status(refused ? Kind::kInvalid : status.kind(),
                "the server gives no lease on the disk: " + status.text());
}

std::unique_ptr<DiskLease> PageBlob::lease() const { return std::make_unique<BlobLease>(*this); }

// --- A managed disk's footer --------------------------------------------------

// Reads the last 512 bytes, and writes the footer unless it is there.
class FooterPreparation final : public Preparation {
 public:
  FooterPreparation(const PageBlob& target, uint64_t size)
      : target_(target), size_(size), footer_(make_vhd_footer(size)) {}

  std::optional<http::Request> next() override {
    const ByteRange range{size_, kVhdFooter};
    switch (step_) {
      case Step::kRead: return target_.read(range, found_.data());
      case Step::kWrite: return target_.write(range, {{footer_.data(), footer_.size()}}, true);
      case Step::kDone: break;
    }
    return std::nullopt;
  }

  Status read(const http::Reply& reply) override {
    if (step_ == Step::kRead) {
      if (Status status = target_.check_read(reply, {size_, kVhdFooter}); !status.ok())
        return status.while_doing("the footer of the disk");
      step_ = is_vhd_footer(found_, size_) ? Step::kDone : Step::kWrite;
      return {};
    }
    step_ = Step::kDone;
    return target_.check_change(reply).while_doing("could not write the footer of the disk");
  }

 private:
  enum class Step { kRead, kWrite, kDone };

  const PageBlob& target_;
  const uint64_t size_;
  const VhdFooter footer_;
  VhdFooter found_ = {};
  Step step_ = Step::kRead;
};

std::unique_ptr<Preparation> PageBlob::prepare(const Capabilities&, uint64_t size) const {
  if (!managed_) return nullptr;
  return std::make_unique<FooterPreparation>(*this, size);
}

}  // namespace

std::unique_ptr<Target> make_azure(const http::Url& url, const TargetOptions& options) {
  return std::make_unique<PageBlob>(url, is_managed_host(url), options);
}

std::unique_ptr<Target> make_azure_disk(const http::Url& url, const TargetOptions& options) {
  return std::make_unique<PageBlob>(url, true, options);
}

bool is_azure_host(const http::Url& url) {
  return url.host.ends_with(".blob.core.windows.net") ||
         url.host.ends_with(".blob.storage.azure.net");
}

bool is_azure_reply(const http::Reply& reply) {
  return !reply.headers.get("x-ms-blob-type").empty() ||
         !reply.headers.get("x-ms-error-code").empty();
}

}  // namespace upload::target
