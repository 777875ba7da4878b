// SPDX-License-Identifier: BSD-3-Clause
//
// What a server's texts, and a URL, are read to: a value or a failure, never a crash. The
// input's first byte says what the text is, the second picks a status, the rest is a
// header field and, after a new line, a body.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/parse.h"
#include "base/printable.h"
#include "base/redact.h"
#include "fuzz/check.h"
#include "http/message.h"
#include "http/url.h"
#include "target/reply.h"
#include "target/target.h"

using namespace upload;
using upload::fuzz::check;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto target =
      target::make_target("imageio", http::parse_url("https://host/images/ticket").value());
  if (size < 3) return 0;
  static constexpr int kStatus[] = {200, 206, 204, 405, 403, 500, 0, 302};
  http::Reply reply;
  reply.status = kStatus[data[1] % std::size(kStatus)];
  const std::string rest(reinterpret_cast<const char*>(data + 2), size - 2);
  const size_t line = rest.find('\n');
  const std::string field = rest.substr(0, line);
  for (const char* name : {"Content-Range", "Allow", "Retry-After"})
    reply.headers.set(name, field);
  reply.body = line == rest.npos ? rest : rest.substr(line + 1);
  reply.sunk = size;
  switch (data[0] % 7) {
    case 0: (void)target->read_offer(reply).ok(); break;
    case 1: {
      const auto reader = target->extents_reader(size * 512);
      // What is accepted is in order and without gaps.
      uint64_t next = 0;
      if (target->check_extents(reply).ok() && reader->finish_page(reply).ok()) {
        for (const target::Extent& extent : reader->take_extents()) {
          check(extent.range.offset == next && extent.range.length > 0);
          next = extent.range.end();
        }
      }
      break;
    }
    case 2: (void)target->check_read(reply, {0, size}).ok(); break;
    case 3:
      (void)target->check_change(reply).ok();
      (void)target->read_direct(reply).ok();
      break;
    case 4: {
      const auto url = http::parse_url(rest);
      if (url.ok() && url.value().path.size() > 1) (void)url.value().redacted();
      break;
    }
    case 5: {
      // What is printed is printed as it is.
      const std::string shown = printable(rest);
      check(printable(shown) == shown && shown.find_first_of("\n\r\x1b") == shown.npos);
      forget_secrets();
      register_secret(field);
      check(field.size() < kShortestSecret || redacted(rest).find(field) == rest.npos);
      check(excerpt(rest).size() <= 200);
      forget_secrets();
      break;
    }
    default:
      (void)parse_size(rest);
      (void)parse_bool(rest);
      (void)http::parse_content_range(rest);
      break;
  }
  return 0;
}
