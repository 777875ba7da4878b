// SPDX-License-Identifier: BSD-3-Clause
//
// A file on a WebDAV server that takes PUT with Content-Range, as Apache's mod_dav_fs does.
// Source: RFC 9110, section 14.4 and 14.5 (partial PUT); RFC 4918 (WebDAV).

#pragma once

#include <memory>

#include "target/target.h"

namespace upload::target {

[[nodiscard]] std::unique_ptr<Target> make_webdav(const http::Url& url,
                                                  const TargetOptions& options);

}  // namespace upload::target
