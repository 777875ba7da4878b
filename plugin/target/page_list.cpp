// SPDX-License-Identifier: BSD-3-Clause
//
// expat reads the XML, and calls back for each element. It takes no entity that a document
// defines: a list has none, and a document that defines some is refused at once.

#include "target/page_list.h"

#include <expat.h>

#include <algorithm>
#include <new>

#include "base/parse.h"
#include "target/reply.h"

namespace upload::target {

namespace {

// Of a text, in bytes. A number has 19, a marker about 100.
constexpr size_t kLongestText = 4096;
constexpr unsigned kDeepest = 8;
constexpr uint64_t kPage = 512;

std::string_view local(const char* name) { return name; }

}  // namespace

void PageList::FreeParser::operator()(XML_ParserStruct* parser) const { XML_ParserFree(parser); }

PageList::PageList(uint64_t size) : size_(size) { begin_page(); }

PageList::~PageList() = default;

void PageList::begin_page() {
  parser_.reset(XML_ParserCreate(nullptr));
  if (!parser_) throw std::bad_alloc();
  depth_ = 0;
  next_marker_.clear();
  XML_SetUserData(parser_.get(), this);
  XML_SetElementHandler(
      parser_.get(),
      [](void* self, const char* name, const char**) {
        static_cast<PageList*>(self)->on_start(local(name));
      },
      [](void* self, const char* name) { static_cast<PageList*>(self)->on_end(local(name)); });
  XML_SetCharacterDataHandler(parser_.get(), [](void* self, const char* text, int length) {
    static_cast<PageList*>(self)->on_text({text, static_cast<size_t>(length)});
  });
  XML_SetDoctypeDeclHandler(
      parser_.get(),
      [](void* self, const char*, const char*, const char*, int) {
        static_cast<PageList*>(self)->refuse(malformed("a list of pages with a DOCTYPE"));
      },
      nullptr);
}

Status PageList::parse(std::string_view piece, bool last) {
  constexpr size_t kMost = size_t{1} << 20;
  while (refusal_.ok()) {
    const size_t length = std::min(piece.size(), kMost);
    const bool final = last && length == piece.size();
    if (XML_Parse(parser_.get(), piece.data(), static_cast<int>(length), final ? 1 : 0) !=
            XML_STATUS_OK &&
        refusal_.ok())
      refuse(malformed("the list of pages is not XML"));
    piece.remove_prefix(length);
    if (piece.empty()) break;
  }
  return refusal_;
}

Status PageList::take(std::string_view piece) { return parse(piece, false); }

Result<bool> PageList::finish_page(const http::Reply& reply) {
  // What the connection has not passed on.
  if (Status status = parse(reply.body, true); !status.ok()) return status;
  if (next_marker_.empty()) return false;
  // A list that never ends has more pages than the disk.
  if (next_marker_ == marker_ || ++pages_ > size_ / kPage)
    return malformed("the list of pages does not end");
  marker_ = next_marker_;
  begin_page();
  return true;
}

std::vector<Extent> PageList::take_extents() {
  if (list_.end() < size_) list_.add({{list_.end(), size_ - list_.end()}, true, true});
  return list_.take();
}

// --- Called by expat ----------------------------------------------------------

void PageList::refuse(Status why) noexcept {
  if (refusal_.ok()) refusal_ = std::move(why);
  XML_StopParser(parser_.get(), XML_FALSE);
}

void PageList::on_start(std::string_view name) noexcept try {
  if (++depth_ > kDeepest) return refuse(malformed("a list of pages with elements in elements"));
  if (depth_ == 1 && name != "PageList") return refuse(malformed("it is not a list of pages"));
  if (name == "PageRange") {
    start_.clear();
    end_.clear();
  }
  text_.clear();
} catch (const std::bad_alloc&) {
  refuse({Kind::kNoMemory, "out of memory"});
}

void PageList::on_text(std::string_view text) noexcept try {
  if (text_.size() + text.size() > kLongestText)
    return refuse(malformed("a list of pages with a text of more than 4096 characters"));
  text_ += text;
} catch (const std::bad_alloc&) {
  refuse({Kind::kNoMemory, "out of memory"});
}

void PageList::on_end(std::string_view name) noexcept try {
  --depth_;
  if (name == "Start") start_ = text_;
  if (name == "End") end_ = text_;
  if (name == "NextMarker") next_marker_ = text_;
  if (name == "PageRange")
    if (Status status = add_range(); !status.ok()) refuse(std::move(status));
  text_.clear();
} catch (const std::bad_alloc&) {
  refuse({Kind::kNoMemory, "out of memory"});
}

Status PageList::add_range() {
  const auto start = parse_number(start_);
  const auto last = parse_number(end_);
  if (!start || !last || *last < *start || *last >= static_cast<uint64_t>(INT64_MAX))
    return malformed("a range of pages without Start or End");
  if (*start < list_.end()) return malformed("ranges of pages that overlap");
  if (++count_ > size_ / kPage + 1) return malformed("more ranges than the disk has pages");
  if (*start >= size_) return {};
  if (*start > list_.end()) list_.add({{list_.end(), *start - list_.end()}, true, true});
  list_.add({{*start, std::min(*last + 1, size_) - *start}, false, false});
  return {};
}

}  // namespace upload::target
