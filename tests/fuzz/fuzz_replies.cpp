// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: whatever a server answers, reading it ends in a value or a
// failure, never in a crash. The input's first byte says what the reply is
// for, the second picks a status, the rest is header field and body.
//
// Built with -DUPLOAD_LIBFUZZER and -fsanitize=fuzzer it is a libFuzzer
// target. Otherwise it has a main() that mutates a small corpus with a fixed
// seed for $UPLOAD_FUZZ_SECONDS (default 3), so that make check always runs it.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/parse.h"
#include "http/message.h"
#include "http/url.h"
#include "target/reply.h"
#include "target/target.h"

using namespace upload;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto target = target::make_target(
      "imageio", http::parse_url("https://host/images/ticket").value());
  if (size < 3) return 0;
  static constexpr int kStatus[] = {200, 206, 204, 405, 403, 500, 0, 302};
  http::Reply reply;
  reply.status = kStatus[data[1] % std::size(kStatus)];
  const std::string rest(reinterpret_cast<const char*>(data + 2), size - 2);
  const size_t line = rest.find('\n');
  reply.content_range = rest.substr(0, line);
  reply.allow = reply.content_range;
  reply.body = line == rest.npos ? rest : rest.substr(line + 1);
  reply.sunk = size;
  switch (data[0] % 6) {
    case 0: (void)target->read_options(reply).ok(); break;
    case 1: {
      const auto reader = target->extents_reader(size * 512);
      const auto extents = target->read_extents(reply, *reader);
      // What is accepted is in order and without gaps.
      uint64_t next = 0;
      if (extents.ok()) {
        for (const target::Extent& extent : extents.value()) {
          if (extent.range.offset != next || extent.range.length == 0) abort();
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
    default:
      (void)parse_size(rest);
      (void)http::parse_content_range(rest);
      break;
  }
  return 0;
}

#ifndef UPLOAD_LIBFUZZER

namespace {

const char* const kCorpus[] = {
    "OPTIONS,GET,PUT\n{\"features\":[\"flush\",\"zero\",\"extents\"],\"max_readers\":8,"
    "\"max_writers\":8,\"unix_socket\":\"\\u0000/a\"}",
    "\n[{\"start\":0,\"length\":65536,\"zero\":true,\"hole\":false},"
    "{\"start\":65536,\"length\":9223372036854775807,\"zero\":false}]",
    "bytes 0-4095/1048576\n",
    "bytes */1048576\nRequested range out of allowed range",
    "https://host:54322/images/ticket?sig=a%20b",
    "https://[::1]/x",
    "9223372036854775807",
    "[[[[[[[[[[[[[[[[{\"a\":1e999}]]]]",
};

uint64_t state = 20260101;

uint64_t random_below(uint64_t below) {
  state = state * 6364136223846793005ULL + 1442695040888963407ULL;
  return (state >> 33) % below;
}

void mutate(std::vector<uint8_t>& input) {
  for (uint64_t n = random_below(8); n > 0 && !input.empty(); --n) {
    const size_t at = random_below(input.size());
    const auto place = input.begin() + static_cast<std::ptrdiff_t>(at);
    switch (random_below(5)) {
      case 0: input[at] = static_cast<uint8_t>(random_below(256)); break;
      case 1: input.erase(place); break;
      case 2: input.insert(place, static_cast<uint8_t>("{}[]\",:-0129e\\u/"[random_below(16)])); break;
      case 3: input.resize(at); break;
      default: {
        const size_t length = random_below(input.size() - at) + 1;
        const std::vector<uint8_t> copy(place, place + static_cast<std::ptrdiff_t>(length));
        input.insert(place, copy.begin(), copy.end());
      }
    }
    if (input.size() > 4096) input.resize(4096);
  }
}

}  // namespace

int main() {
  const char* const seconds = getenv("UPLOAD_FUZZ_SECONDS");
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::seconds(seconds == nullptr ? 3 : atoi(seconds));
  unsigned long runs = 0;
  while (std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 1000; ++i, ++runs) {
      const std::string text = kCorpus[random_below(std::size(kCorpus))];
      std::vector<uint8_t> input = {static_cast<uint8_t>(random_below(6)),
                                    static_cast<uint8_t>(random_below(8))};
      input.insert(input.end(), text.begin(), text.end());
      mutate(input);
      LLVMFuzzerTestOneInput(input.data(), input.size());
    }
  }
  printf("fuzzed replies: %lu inputs\n", runs);
  if (const char* path = getenv("UPLOAD_TEST_COUNTS")) {
    if (FILE* file = fopen(path, "a")) {
      fprintf(file, "fuzz-replies 1 0 0\n");
      fclose(file);
    }
  }
  return 0;
}

#endif
