// SPDX-License-Identifier: BSD-3-Clause
//
// A parser for JSON reads from where it likes to, but a reply comes when it comes. So the
// list is cut into its objects here, and each is parsed on its own. What is not a list of
// objects fails at its first character; an object has a length that no honest one
// meets, which also bounds how deep it is. What is kept is ExtentList's to bound.

#include "target/imageio_extents.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "target/imageio_json.h"
#include "target/reply.h"

namespace upload::target {

namespace {

// Of one object, and of blanks between two, in bytes. One has about 70.
constexpr size_t kLongest = 4096;
// No disk has smaller blocks.
constexpr uint64_t kSmallest = 512;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

}  // namespace

Status ImageioExtents::take(std::string_view piece) {
  for (const char c : piece)
    if (Status status = take_character(c); !status.ok()) return status;
  return {};
}

Status ImageioExtents::take_character(char c) {
  if (place_ != Place::kIn) return take_outside(c);
  if (item_.size() >= kLongest) return malformed("an extent of more than 4096 characters");
  item_ += c;
  if (quoted_) {
    quoted_ = escaped_ || c != '"';
    escaped_ = !escaped_ && c == '\\';
  } else if (c == '"') {
    quoted_ = true;
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if ((c == '}' || c == ']') && --depth_ == 0) {
    return end_item();
  }
  return {};
}

// Between the objects, before and after them.
Status ImageioExtents::take_outside(char c) {
  if (is_blank(c))
    return ++blanks_ > kLongest ? malformed("extents with more than 4096 blanks between")
                                : Status();
  blanks_ = 0;
  const Place before = std::exchange(place_, Place::kIn);
  switch (before) {
    case Place::kBegin:
      if (c != '[') return malformed("extents are not a JSON array");
      place_ = Place::kFirst;
      return {};
    case Place::kFirst:
    case Place::kNext:
      if (c == ']' && before == Place::kFirst) {
        place_ = Place::kEnd;
        return {};
      }
      if (c != '{') return malformed("an extent is not a JSON object");
      item_ = c;
      depth_ = 1;
      return {};
    case Place::kAfter:
      if (c != ',' && c != ']') return malformed("extents are not a JSON array");
      place_ = c == ',' ? Place::kNext : Place::kEnd;
      return {};
    case Place::kEnd:
    case Place::kIn: break;
  }
  return malformed("there is more than the extents");
}

Status ImageioExtents::end_item() {
  place_ = Place::kAfter;
  const nlohmann::json item = nlohmann::json::parse(item_, nullptr, false);
  if (!item.is_object()) return malformed("an extent is not a JSON object");
  const auto start = number_in(item, "start", 0);
  const auto length = number_in(item, "length", 1);
  const auto zero = item.find("zero");
  if (!start || !length || zero == item.end() || !zero->is_boolean())
    return malformed("an extent without start, length or zero");
  if (*start != list_.end()) return malformed("extents that overlap or have gaps");
  if (*length > static_cast<uint64_t>(INT64_MAX) - *start)
    return malformed("extents beyond the largest size");
  if (++count_ > size_ / kSmallest + 1) return malformed("more extents than the disk has blocks");
  const auto hole = item.find("hole");
  if (hole != item.end() && !hole->is_boolean()) return malformed("hole is not a boolean");
  list_.add({{*start, *length}, zero->get<bool>(), hole != item.end() && hole->get<bool>()});
  return {};
}

Result<bool> ImageioExtents::finish_page(const http::Reply& reply) {
  // What the connection has not passed on.
  if (Status status = take(reply.body); !status.ok()) return status;
  if (place_ == Place::kBegin) return malformed("extents are not a JSON array");
  if (place_ != Place::kEnd) return malformed("the extents are cut short");
  return false;
}

}  // namespace upload::target
