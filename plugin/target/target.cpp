// SPDX-License-Identifier: BSD-3-Clause
//
// The table of protocols.

#include "target/target.h"

#include "target/azure.h"
#include "target/imageio.h"
#include "target/shared_key.h"
#include "target/webdav.h"

namespace upload::target {

namespace {

struct Row {
  const char* name;
  std::unique_ptr<Target> (*make)(const http::Url& url, const TargetOptions& options);
  bool creates;
  bool checks;  // takes checksums
  // How a user and a password are shown; null: as in RFC 7617.
  http::CredentialPtr (*sign)(const std::string& user, const std::string& password,
                              const Clock& clock);
};

constexpr Row kTargets[] = {
    {"imageio", make_imageio, false, false, nullptr},
    {"azure", make_azure, true, true, make_shared_key},
    {"azure-disk", make_azure_disk, false, false, make_shared_key},
    {"webdav", make_webdav, true, false, nullptr},
};

const Row* find(const std::string& name) {
  for (const Row& row : kTargets)
    if (name == row.name) return &row;
  return nullptr;
}

}  // namespace

std::string target_names() {
  std::string names;
  for (const Row& row : kTargets) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

bool is_target(const std::string& name) { return find(name) != nullptr; }

std::string name_for(const http::Url& url) {
  if (is_azure_host(url)) return "azure";
  return url.path.starts_with("/images/") ? "imageio" : "";
}

http::Request who_are_you(const http::Url& url) {
  http::Request request;
  request.method = http::Method::kHead;
  request.target = url.target();
  request.headers = {"x-ms-version: 2021-12-02"};
  request.what = "HEAD";
  return request;
}

std::string name_by(const http::Reply& reply) {
  return is_azure_reply(reply) ? "azure" : "imageio";
}

Status check_options(const std::string& name, const TargetOptions& options) {
  const Row* const row = find(name);
  if (options.create && !row->creates)
    return {Kind::kInvalid, "create=true: target=" + name + " can't create a disk"};
  if (options.checksum && !row->checks)
    return {Kind::kInvalid, "checksum=true: target=" + name + " takes no checksums"};
  return {};
}

std::unique_ptr<Target> make_target(const std::string& name, const http::Url& url,
                                    const TargetOptions& options) {
  const Row* const row = find(name);
  return row == nullptr ? nullptr : row->make(url, options);
}

bool signs_requests(const std::string& name) {
  const Row* const row = find(name);
  return row != nullptr && row->sign != nullptr;
}

http::CredentialPtr make_signature(const std::string& name, const std::string& user,
                                   const std::string& password, const Clock& clock) {
  return find(name)->sign(user, password, clock);
}

}  // namespace upload::target
