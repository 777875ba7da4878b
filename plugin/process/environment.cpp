// SPDX-License-Identifier: BSD-3-Clause
//
// The monotonic clock, connections by libcurl, and spools in files.

#include "process/environment.h"

#include <memory>
#include <utility>

#include "http/curl_connection.h"
#include "journal/spool_file.h"

namespace upload {

Environment real_environment(std::function<bool(Duration)> sleep_unless_ending) {
  static SteadyClock clock;
  auto addresses = std::make_shared<http::Addresses>();
  return {clock,
          [addresses](std::shared_ptr<const http::Origin> origin, ConnectionId id,
                      http::ConnectionEvents events) {
            return http::make_curl_connection(std::move(origin), addresses, id,
                                              std::move(events));
          },
          [](const std::string& directory,
             const journal::SpoolName& name) -> Result<std::unique_ptr<journal::SpoolPlace>> {
            auto file = journal::SpoolFile::lock(directory, name, clock);
            if (!file.ok()) return file.status();
            return std::unique_ptr<journal::SpoolPlace>(std::move(file.value()));
          },
          std::move(sleep_unless_ending)};
}

}  // namespace upload
