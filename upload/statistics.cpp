// SPDX-License-Identifier: BSD-3-Clause
//
// A line is recognised by its beginning, as its end could be a server's words in others.

#include "statistics.h"

#include <cinttypes>
#include <cstdio>

#include "progress.h"

namespace nbdupload {

namespace {

// More than there are operations.
constexpr size_t kMostLines = 100;

struct Row {
  char operation[32] = "";
  uint64_t requests = 0, bytes = 0, failed = 0;
};

bool parse(const std::string& line, Row& row) {
  return sscanf(line.c_str(),
                "%31[a-z-]: %" SCNu64 " requests for %*u of clients (%*f each), %" SCNu64
                " bytes, %" SCNu64 " failed",
                row.operation, &row.requests, &row.bytes, &row.failed) == 4;
}

}  // namespace

bool Statistics::take(std::string_view line) {
  const std::string text(line);
  Row row;
  if (lines_.size() >= kMostLines || !parse(text, row)) return false;
  lines_.push_back(text);
  const std::string operation = row.operation;
  if (operation == "write") data_ += row.bytes;
  if (operation == "zero") zeroes_ += row.bytes;
  requests_ += row.requests;
  retries_ += operation == "replay" ? row.requests : row.failed;
  return true;
}

std::string Statistics::summary() const {
  return shown_bytes(static_cast<double>(data_)) + " of data and " +
         shown_bytes(static_cast<double>(zeroes_)) + " of zeroes in " +
         std::to_string(requests_) + " requests, " + std::to_string(retries_) +
         (retries_ == 1 ? " retry" : " retries");
}

}  // namespace nbdupload
