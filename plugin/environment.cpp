// SPDX-License-Identifier: BSD-3-Clause
//
// The monotonic clock, connections by libcurl, and spools in files.

#include "environment.h"

#include "http/curl_connection.h"
#include "journal/spool_file.h"

namespace upload {

Environment real_environment(std::function<bool(Duration)> sleep_unless_ending) {
  static SteadyClock clock;
  return {clock, http::make_curl_connection,
          [](const std::string& directory, const journal::SpoolName& name)
              -> Result<std::unique_ptr<journal::SpoolPlace>> {
            auto file = journal::SpoolFile::lock(directory, name, clock);
            if (!file.ok()) return file.status();
            return std::unique_ptr<journal::SpoolPlace>(std::move(file.value()));
          },
          std::move(sleep_unless_ending)};
}

}  // namespace upload
