// SPDX-License-Identifier: BSD-3-Clause
//
// nlohmann's SAX parser, with an iterator that counts the lines that it has read: so each key
// is known with its line. (https://json.nlohmann.me/api/json/sax_parse/)

#include "process/export_list.h"

#include <iterator>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "base/printable.h"

namespace upload {

namespace {

// Goes through a text and counts lines.
class LineCounter {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  LineCounter(const char* at, size_t* line) : at_(at), line_(line) {}
  reference operator*() const { return *at_; }
  LineCounter& operator++() {
    if (*at_ == '\n') ++*line_;
    ++at_;
    return *this;
  }
  LineCounter operator++(int) {
    LineCounter before = *this;
    ++*this;
    return before;
  }
  bool operator==(const LineCounter& other) const { return at_ == other.at_; }
  bool operator!=(const LineCounter& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  size_t* line_;
};

class ListReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ListReader(const size_t& line) : line_(line) {}

  std::vector<ListedExport> list;
  std::string failure;

  bool start_array(size_t) override {
    if (depth_ != 0) return unexpected();
    depth_ = 1;
    return true;
  }
  bool end_array() override {
    depth_ = 0;
    return true;
  }
  bool start_object(size_t) override {
    if (depth_ != 1) return unexpected();
    depth_ = 2;
    list.emplace_back().line = line_;
    return true;
  }
  bool key(std::string& key) override {
    ListedExport& one = list.back();
    if (key != "name" && key != "url" && key != "size" && key != "claim")
      return fail("unknown key \"" + printable(key) +
                  "\"; there are \"name\", \"url\", \"size\", \"claim\"");
    if (!one.lines.emplace(key, line_).second) return fail("\"" + key + "\" comes twice");
    key_ = key;
    return true;
  }
  bool end_object() override {
    depth_ = 1;
    const ListedExport& one = list.back();
    for (const char* const needed : {"name", "url"})
      if (one.lines.count(needed) == 0)
        return fail(std::string("an export has no \"") + needed + "\"");
    return true;
  }
  bool string(std::string& value) override {
    if (depth_ != 2) return unexpected();
    ListedExport& one = list.back();
    (key_ == "name"    ? one.name
     : key_ == "url"   ? one.url
     : key_ == "claim" ? one.claim
                       : one.size) = value;
    if (value.empty()) return fail("\"" + key_ + "\" is empty");
    return true;
  }
  bool number_unsigned(uint64_t value) override {
    if (depth_ != 2 || key_ != "size") return unexpected();
    list.back().size = std::to_string(value);
    return true;
  }
  bool number_integer(int64_t) override { return unexpected(); }
  bool number_float(double, const std::string&) override { return unexpected(); }
  bool boolean(bool) override { return unexpected(); }
  bool null() override { return unexpected(); }
  bool binary(binary_t&) override { return unexpected(); }
  // The library's text quotes what it has read, which may be secret.
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception&) override {
    return fail("this is not JSON");
  }

 private:
  bool unexpected() {
    if (depth_ == 2)
      return fail("\"" + key_ + "\" must be a text" +
                  (key_ == "size" ? " or a number of bytes" : ""));
    return fail("must be a list of exports: [{\"name\": ..., \"url\": ...}, ...]");
  }
  bool fail(const std::string& why) {
    failure = format("line %zu: ", line_) + why;
    return false;
  }

  const size_t& line_;
  int depth_ = 0;  // 1: in the list, 2: in an export
  std::string key_;
};

}  // namespace

Result<std::vector<ListedExport>> read_export_list(const std::string& text) {
  size_t line = 1;
  ListReader reader(line);
  const char* const begin = text.data();
  const bool read = nlohmann::json::sax_parse(LineCounter(begin, &line),
                                              LineCounter(begin + text.size(), &line), &reader);
  if (!read) return Status(Kind::kInvalid, reader.failure);
  if (reader.list.empty()) return Status(Kind::kInvalid, "line 1: there is no export in it");
  return std::move(reader.list);
}

}  // namespace upload
