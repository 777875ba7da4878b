// SPDX-License-Identifier: BSD-3-Clause
//
// Records in JSON. Whoever may write to a ledger may have written anything: each member is
// checked for its type and its bounds, and what others have named goes into texts by
// printable() only.

#include "claim/record.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cinttypes>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/format.h"
#include "base/printable.h"

namespace upload::claim {

namespace {

using nlohmann::json;

constexpr int kVersion = 1;
constexpr size_t kLongestHost = 255;
constexpr size_t kLongestId = 64;
constexpr int64_t kLatest = 253402300799;  // the year 9999

constexpr std::array<std::pair<State, const char*>, 4> kStates = {{
    {State::kAvailable, "available"},
    {State::kUploading, "uploading"},
    {State::kComplete, "complete"},
    {State::kFailed, "failed"},
}};

const char* name_of(State state) {
  for (const auto& [each, name] : kStates)
    if (each == state) return name;
  return "";
}

std::optional<State> state_of(const std::string& name) {
  for (const auto& [state, each] : kStates)
    if (each == name) return state;
  return std::nullopt;
}

std::optional<std::string> text_in(const json& object, const char* key, size_t longest) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  std::string text = found->get<std::string>();
  if (text.size() > longest) return std::nullopt;
  return text;
}

// From 0 to `most`.
std::optional<int64_t> number_in(const json& object, const char* key, int64_t most) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_integer()) return std::nullopt;
  if (found->is_number_unsigned() && found->get<uint64_t>() > static_cast<uint64_t>(most))
    return std::nullopt;
  const auto number = found->get<int64_t>();
  if (number < 0 || number > most) return std::nullopt;
  return number;
}

Status bad(const std::string& why) { return {Kind::kInvalid, why}; }

Status bad_member(const char* key) {
  return bad(format("is not a claim's record: \"%s\" is missing or wrong", key));
}

// Of 16 bytes, in hexadecimal.
std::string random_digits() {
  std::array<unsigned char, 16> bytes = {};
  if (RAND_bytes(bytes.data(), bytes.size()) != 1) throw std::bad_alloc();
  std::string digits;
  for (const unsigned char byte : bytes) digits += format("%02x", byte);
  return digits;
}

// A name that JSON can hold: a host may be called anything.
std::string host_name() {
  std::array<char, kLongestHost + 1> name = {};
  if (gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "unknown";
  return printable(name.data());
}

}  // namespace

std::string hash_of(const std::string& name, const http::Url& url) {
  std::string subject = name;
  if (subject.empty()) {
    std::string host = url.host;
    std::transform(host.begin(), host.end(), host.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    subject = url.scheme + "://" + host + ":" + url.port + url.path;
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  if (EVP_Digest(subject.data(), subject.size(), digest, &length, EVP_sha256(), nullptr) != 1)
    throw std::bad_alloc();
  std::string digits;
  for (unsigned i = 0; i < length; ++i) digits += format("%02x", digest[i]);
  return digits;
}

std::string random_guid() {
  std::string guid = random_digits();
  guid[12] = '4';  // the version
  guid[16] = '8';  // the variant
  for (const size_t at : {20, 16, 12, 8}) guid.insert(at, "-");
  return guid;
}

Owner this_process(const Clock& clock) {
  Owner owner;
  owner.id = random_digits();
  owner.host = host_name();
  owner.pid = getpid();
  owner.since =
      std::chrono::duration_cast<std::chrono::seconds>(clock.wall_now().time_since_epoch())
          .count();
  return owner;
}

std::string describe(const Owner& owner) {
  const time_t when = owner.since;
  tm parts = {};
  std::array<char, 32> text = {};
  if (gmtime_r(&when, &parts) == nullptr ||
      strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
    return "an unknown process";
  return format("process %" PRId64 " on host ", owner.pid) + printable(owner.host) + ", since " +
         text.data();
}

std::string to_json(const Record& record) {
  const json object = {{"version", kVersion},
                       {"state", name_of(record.state)},
                       {"generation", record.generation},
                       {"host", record.owner.host},
                       {"pid", record.owner.pid},
                       {"since", record.owner.since},
                       {"id", record.owner.id}};
  return object.dump(-1, ' ', true, json::error_handler_t::replace);
}

Result<Record> from_json(const std::string& text) {
  if (text.size() > kLongestRecord) return bad("is longer than a claim's record may be");
  const json object = json::parse(text, nullptr, false);
  if (!object.is_object()) return bad("is not a claim's record: it is not a JSON object");
  const auto version = number_in(object, "version", INT32_MAX);
  if (!version) return bad_member("version");
  if (*version != kVersion)
    return bad(format("is a claim's record of version %" PRId64 "; this release knows version %d",
                      *version, kVersion));
  const auto name = text_in(object, "state", kLongestId);
  const auto state = name ? state_of(*name) : std::nullopt;
  if (!state) return bad_member("state");
  const auto generation = number_in(object, "generation", INT64_MAX - 1);
  if (!generation) return bad_member("generation");
  const auto host = text_in(object, "host", kLongestHost * 4);
  if (!host) return bad_member("host");
  const auto pid = number_in(object, "pid", INT32_MAX);
  if (!pid) return bad_member("pid");
  const auto since = number_in(object, "since", kLatest);
  if (!since) return bad_member("since");
  const auto id = text_in(object, "id", kLongestId);
  if (!id) return bad_member("id");
  return Record{*state, static_cast<uint64_t>(*generation), {*host, *pid, *since, *id}};
}

}  // namespace upload::claim
