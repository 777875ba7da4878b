// SPDX-License-Identifier: BSD-3-Clause
//
// The name of an image may have "=" in it, and so may a URL: what separates them is the
// first "=" that a URL's scheme follows, or else the last one before "+".

#include "disk_list.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace nbdupload {

namespace {

using nlohmann::json;

// A list is not larger, in bytes.
constexpr size_t kLargest = size_t{16} << 20;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(tolower(c)); });
  return text;
}

Or<std::vector<Pair>> parse_json(std::string_view text, const std::string& name) {
  const json list = json::parse(text, nullptr, false);
  if (!list.is_array())
    return Outcome::usage("--list: '" + name + "' is not a JSON array of objects");
  std::vector<Pair> pairs;
  for (const json& entry : list) {
    const std::string place =
        "--list: '" + name + "', entry " + std::to_string(pairs.size() + 1) + ": ";
    if (!entry.is_object()) return Outcome::usage(place + "it is not an object");
    Pair pair;
    for (const auto& [key, value] : entry.items()) {
      std::string* const where = key == "image"    ? &pair.image
                                 : key == "url"    ? &pair.url
                                 : key == "format" ? &pair.format
                                                   : nullptr;
      if (where == nullptr)
        return Outcome::usage(place + "unknown key '" + key + "'; known: image url format");
      if (!value.is_string()) return Outcome::usage(place + key + " is not a string");
      *where = value.get<std::string>();
    }
    if (pair.image.empty() || pair.url.empty())
      return Outcome::usage(place + "image and url are needed");
    pairs.push_back(std::move(pair));
  }
  return pairs;
}

Or<std::vector<Pair>> parse_lines(std::string_view text, const std::string& name) {
  std::vector<Pair> pairs;
  for (int number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    std::vector<std::string> fields;
    for (size_t begin = 0; begin <= line.size();) {
      const size_t end = std::min(line.find('\t', begin), line.size());
      fields.emplace_back(line.substr(begin, end - begin));
      begin = end + 1;
    }
    if (fields.size() < 2 || fields.size() > 3 || fields[0].empty() || fields[1].empty())
      return Outcome::usage(
          "--list: '" + name + "', line " + std::to_string(number) +
          ": it is not IMAGE, URL and perhaps a format, with tabs between them");
    fields.resize(3);
    pairs.push_back({fields[0], fields[1], fields[2], false});
  }
  return pairs;
}

}  // namespace

Or<Pair> parse_map(const std::string& text) {
  const std::string plain = lower(text);
  const size_t at = std::min({plain.find("=https://"), plain.find("=http://"), text.rfind("=+")});
  if (at == std::string::npos || at == 0)
    return Outcome::usage("--map: it is not IMAGE=URL with https:// or http://, or IMAGE=+FILE");
  return Pair{text.substr(0, at), text.substr(at + 1), "", true};
}

Or<std::vector<Pair>> parse_list(std::string_view text, const std::string& name) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_json = first != std::string_view::npos && text[first] == '[';
  Or<std::vector<Pair>> pairs = is_json ? parse_json(text, name) : parse_lines(text, name);
  if (pairs.ok() && pairs.value().empty())
    return Outcome::usage("--list: '" + name + "' names no image");
  return pairs;
}

Or<std::vector<Pair>> read_list(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return Outcome::failed("--list: '" + file + "' can't be read: " + strerror(errno));
  std::string text;
  char buffer[65536];
  while (text.size() <= kLargest && (stream.read(buffer, sizeof buffer), stream.gcount() > 0))
    text.append(buffer, static_cast<size_t>(stream.gcount()));
  if (text.size() > kLargest)
    return Outcome::failed("--list: '" + file + "' is larger than any list");
  return parse_list(text, file);
}

}  // namespace nbdupload
