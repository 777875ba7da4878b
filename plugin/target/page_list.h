// SPDX-License-Identifier: BSD-3-Clause
//
// PageList: reads the list of a page blob's ranges that have data, as it comes.
//
//   <PageList><PageRange><Start>0</Start><End>4095</End></PageRange>...<NextMarker/></PageList>
//
// What lies between is zero. Neighbours are joined: the server may list each page by itself.
//
// Not thread safe. Failures are kMalformed.
// Source: https://learn.microsoft.com/rest/api/storageservices/get-page-ranges

#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "target/extent_list.h"
#include "target/target.h"

struct XML_ParserStruct;

namespace upload::target {

class PageList final : public ExtentsReader {
 public:
  // `size` of the disk, in bytes; ranges beyond it are left out.
  explicit PageList(uint64_t size);
  ~PageList() override;
  PageList(const PageList&) = delete;
  PageList& operator=(const PageList&) = delete;

  // Of the page of the list that is to be asked for; empty: the first.
  [[nodiscard]] const std::string& marker() const { return marker_; }

  Status take(std::string_view piece) override;
  Result<bool> finish_page(const http::Reply& reply) override;
  std::vector<Extent> take_extents() override;

 private:
  struct FreeParser {
    void operator()(XML_ParserStruct* parser) const;
  };

  void begin_page();
  Status parse(std::string_view piece, bool last);
  void on_start(std::string_view name) noexcept;
  void on_text(std::string_view text) noexcept;
  void on_end(std::string_view name) noexcept;
  Status add_range();
  void refuse(Status why) noexcept;

  const uint64_t size_;
  ExtentList list_;
  uint64_t count_ = 0;  // of all ranges that have come
  uint64_t pages_ = 0;  // of the list
  std::string marker_;
  std::unique_ptr<XML_ParserStruct, FreeParser> parser_;
  unsigned depth_ = 0;  // of elements
  std::string text_;    // of the innermost element
  // Of the range that is being read.
  std::string start_;
  std::string end_;
  std::string next_marker_;
  Status refusal_;
};

}  // namespace upload::target
