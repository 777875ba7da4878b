// SPDX-License-Identifier: BSD-3-Clause
//
// The images API of ovirt-imageio, as far as the plugin uses it; the disk's path is
// /images/t. What does not look like it is a defect of the plugin.

#include "script/asked.h"

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <ostream>

namespace upload::script {

namespace {

[[noreturn]] void malformed(const std::string& what) {
  fprintf(stderr, "a request is malformed: %s\n", what.c_str());
  abort();
}

const char* name_of(Verb verb) {
  switch (verb) {
    case Verb::kOptions: return "OPTIONS";
    case Verb::kPost: return "POST";
    case Verb::kRead: return "read";
    case Verb::kExtents: return "extents";
    case Verb::kWrite: return "write";
    case Verb::kZero: return "zero";
    case Verb::kFlush: return "flush";
  }
  return "?";
}

uint64_t body_of(const http::Request& request) {
  uint64_t bytes = 0;
  for (const http::BodyPart& part : request.parts) bytes += part.length;
  return bytes;
}

// "first-last" after the prefix, in one of the header fields.
ByteRange range_in(const http::Request& request, const std::string& prefix) {
  for (const std::string& field : request.headers) {
    unsigned long long first = 0;
    unsigned long long last = 0;
    if (field.starts_with(prefix) &&
        sscanf(field.c_str() + prefix.size(), "%llu-%llu", &first, &last) == 2)
      return {first, last + 1 - first};
  }
  malformed("no " + prefix);
}

}  // namespace

Asked parse(const http::Request& request) {
  switch (request.method) {
    case http::Method::kOptions: return {Verb::kOptions, {}, false};
    case http::Method::kPost: return {Verb::kPost, {}, false};
    case http::Method::kGet:
      if (request.sink.empty()) return {Verb::kExtents, {}, false};
      return {Verb::kRead, range_in(request, "Range: bytes="), false};
    case http::Method::kPut: {
      const bool stable = request.target == "/images/t?flush=y";
      if (!stable && request.target != "/images/t?flush=n") malformed("the target");
      const Asked asked{Verb::kWrite, range_in(request, "Content-Range: bytes "), stable};
      if (body_of(request) != asked.range.length) malformed("the length of the body");
      return asked;
    }
    case http::Method::kPatch: {
      const auto body = nlohmann::json::parse(request.text);
      if (body.at("op") == "flush") return kFlushed;
      if (body.at("op") != "zero") malformed("the operation");
      return {Verb::kZero, {body.at("offset"), body.at("size")}, body.at("flush")};
    }
    case http::Method::kHead:
    case http::Method::kDelete: break;
  }
  malformed("the method");
}

std::ostream& operator<<(std::ostream& out, const Asked& asked) {
  out << name_of(asked.verb);
  if (asked.range.length > 0)
    out << " " << asked.range.length << " bytes at block "
        << static_cast<double>(asked.range.offset) / kBlock;
  return out << (asked.stable ? ", stable" : "");
}

}  // namespace upload::script
