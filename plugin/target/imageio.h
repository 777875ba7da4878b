// SPDX-License-Identifier: BSD-3-Clause
//
// The images API of ovirt-imageio.
// Source: https://github.com/oVirt/ovirt-imageio/blob/master/docs/images.md

#pragma once

#include <memory>

#include "target/target.h"

namespace upload::target {

[[nodiscard]] std::unique_ptr<Target> make_imageio(const http::Url& url,
                                                   const TargetOptions& options);

}  // namespace upload::target
