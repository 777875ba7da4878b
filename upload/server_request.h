// SPDX-License-Identifier: BSD-3-Clause
//
// Asking the upload server itself, for the checksum of a disk: the one thing that the plugin does
// not ask for.
//
// Another nbdupload does it, and gets what it needs through a pipe, as there are secrets in it.

#pragma once

#include <string>
#include <vector>

#include "outcome.h"
#include "parameters.h"
#include "target.h"

namespace nbdupload {

// The parameters of the plugin that the request would have to heed and can't; empty: none.
[[nodiscard]] std::string unknown_to_requests(const Parameters& parameters);

// A GET of something below the target's URL, such as "/checksum", with a query or without one: what
// the program reads. A secret.
[[nodiscard]] std::string request_for(const Target& target, const Parameters& parameters,
                                      const std::string& resource, const std::string& query);

// The program and its arguments; it reads the request from that file descriptor. It prints the
// reply if its status is 200. Else it prints why not, in a line without the URL.
[[nodiscard]] std::vector<std::string> request_words(int fd);

// Its exit status if the server does not know such a thing (404, 405 and their like).
inline constexpr int kNotThere = 3;

// Does that and ends, if the arguments are such; returns otherwise.
void run_request(int argc, char** argv);

}  // namespace nbdupload
