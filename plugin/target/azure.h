// SPDX-License-Identifier: BSD-3-Clause
//
// Page blobs of Azure's blob service, and managed disks, which are page blobs that somebody else
// has made.
// Source: https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api

#pragma once

#include <memory>

#include "http/credentials.h"
#include "target/target.h"

namespace upload::target {

// A managed disk if the host's name says so.
[[nodiscard]] std::unique_ptr<Target> make_azure(const http::Url& url,
                                                 const TargetOptions& options);
// A managed disk whatever its host's name is.
[[nodiscard]] std::unique_ptr<Target> make_azure_disk(const http::Url& url,
                                                      const TargetOptions& options);

// The host's name is one of the blob service's.
[[nodiscard]] bool is_azure_host(const http::Url& url);
// Is the reply to a HEAD of the blob service?
[[nodiscard]] bool is_azure_reply(const http::Reply& reply);

}  // namespace upload::target
