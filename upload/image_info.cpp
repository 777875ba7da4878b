// SPDX-License-Identifier: BSD-3-Clause
//
// Where a format tells its other files is its own business, so they are looked for by the
// names of the keys at any depth.

#include "image_info.h"

#include <nlohmann/json.hpp>
#include <set>

namespace nbdupload {

namespace {

using nlohmann::json;

std::string text_of(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// Formats nest a few levels; an image can't make qemu-img write more.
constexpr int kDeepest = 64;

void collect(const json& value, int depth, std::set<std::string>& names) {
  if (depth > kDeepest || !value.is_structured()) return;
  for (const char* key : {"filename", "full-backing-filename", "data-file"})
    if (std::string name = text_of(value, key); !name.empty()) names.insert(name);
  for (const json& part : value) collect(part, depth + 1, names);
}

}  // namespace

ImageInfo parse_image_info(const std::string& output) {
  const json parsed = json::parse(output, nullptr, false);
  const json& image = parsed.is_array() && !parsed.empty() ? parsed[0] : parsed;
  std::set<std::string> names;
  collect(parsed, 0, names);
  names.erase(text_of(image, "filename"));
  if (names.empty())
    if (std::string name = text_of(image, "backing-filename"); !name.empty()) names.insert(name);
  return {text_of(image, "format"), {names.begin(), names.end()}};
}

std::string shown_references(const std::vector<std::string>& names) {
  std::string shown;
  for (const std::string& name : names) {
    const std::string quoted = json(name).dump(-1, ' ', true);
    shown += (shown.empty() ? "" : "', '") + quoted.substr(1, quoted.size() - 2);
  }
  return shown;
}

}  // namespace nbdupload
