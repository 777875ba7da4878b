// SPDX-License-Identifier: BSD-3-Clause
//
// The table of protocols.

#include "target/target.h"

#include "target/imageio.h"

namespace upload::target {

namespace {

struct Row {
  const char* name;
  std::unique_ptr<Target> (*make)(const http::Url& url);
};

// The first is what "auto" means.
constexpr Row kTargets[] = {
    {"imageio", make_imageio},
};

}  // namespace

std::string target_names() {
  std::string names;
  for (const Row& row : kTargets) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

std::unique_ptr<Target> make_target(const std::string& name, const http::Url& url) {
  if (name == "auto") return kTargets[0].make(url);
  for (const Row& row : kTargets)
    if (name == row.name) return row.make(url);
  return nullptr;
}

}  // namespace upload::target
