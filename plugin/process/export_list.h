// SPDX-License-Identifier: BSD-3-Clause
//
// The file of exports=: a list in JSON, such as
//
//   [{"name": "sda", "url": "https://host:54322/images/TICKET-1"},
//    {"name": "sdb", "url": "+/run/secrets/sdb", "size": "10G"}]
//
// Pure functions; thread safe.

#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"

namespace upload {

// The values are as given, but that a size may have been a number.
struct ListedExport {
  std::string name;
  std::string url;
  std::string size;   // empty: not given
  std::string claim;  // likewise

  // From 1; of the export's beginning for a key that is not there.
  [[nodiscard]] size_t line_of(const std::string& key) const {
    const auto found = lines.find(key);
    return found == lines.end() ? line : found->second;
  }
  size_t line = 0;
  std::map<std::string, size_t> lines;  // of the keys
};

// Refuses what is not such a list, with the line; and a list of none.
[[nodiscard]] Result<std::vector<ListedExport>> read_export_list(const std::string& text);

}  // namespace upload
