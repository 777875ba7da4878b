// SPDX-License-Identifier: BSD-3-Clause
//
// nbdinfo prints one export unless it is asked for a list.

#include "target_facts.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace nbdupload {

namespace {

using nlohmann::json;

const json* member(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() ? &*found : nullptr;
}

}  // namespace

std::optional<TargetFacts> parse_target_facts(const std::string& output) {
  const json parsed = json::parse(output, nullptr, false);
  const json* const exports = member(parsed, "exports");
  if (exports == nullptr || !exports->is_array() || exports->empty()) return std::nullopt;
  const json& target = exports->front();
  const json* const size = member(target, "export-size");
  if (size == nullptr || !size->is_number_unsigned()) return std::nullopt;
  TargetFacts facts;
  facts.size = size->get<uint64_t>();
  const json* const read_only = member(target, "is_read_only");
  facts.read_only = read_only != nullptr && *read_only == true;
  if (const json* const block = member(target, "block_size_minimum");
      block != nullptr && block->is_number_unsigned())
    facts.least_block = std::max<uint64_t>(block->get<uint64_t>(), 1);
  return facts;
}

}  // namespace nbdupload
