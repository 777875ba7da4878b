// SPDX-License-Identifier: BSD-3-Clause
//
// What the parts of nbdupload share that speak NBD themselves, each in a process of its own.

#pragma once

#include <libnbd.h>

#include <cstdio>
#include <memory>

namespace nbdupload {

using NbdConnection = std::unique_ptr<nbd_handle, void (*)(nbd_handle*)>;

// Nothing: it can't be connected, as libnbd's error tells.
// `context`: metadata that will be asked for; nullptr: none.
[[nodiscard]] inline NbdConnection connect_to(const char* address,
                                              const char* context = nullptr) {
  NbdConnection nbd(nbd_create(), nbd_close);
  if (nbd != nullptr && context != nullptr && nbd_add_meta_context(nbd.get(), context) != 0)
    nbd.reset();
  if (nbd != nullptr && nbd_connect_uri(nbd.get(), address) != 0) nbd.reset();
  return nbd;
}

// Prints libnbd's error; the exit status of the process.
[[nodiscard]] inline int nbd_failure() {
  fprintf(stderr, "%s\n", nbd_get_error());
  return 1;
}

}  // namespace nbdupload
