// SPDX-License-Identifier: BSD-3-Clause
//
// The string to sign, and its HMAC.

#include "target/shared_key.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <map>
#include <new>
#include <utility>

#include "base/percent.h"
#include "base/redact.h"

namespace upload::target {

namespace {

// As in a header field (RFC 9110, section 5.6.7); not with strftime, whose names are the locale's.
std::string date_text(WallTime time) {
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const time_t seconds = std::chrono::system_clock::to_time_t(time);
  tm parts = {};
  gmtime_r(&seconds, &parts);
  std::array<char, 64> text = {};
  snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT", kDays[parts.tm_wday],
           parts.tm_mday, kMonths[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour,
           parts.tm_min, parts.tm_sec);
  return text.data();
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

// Names in lower case.
std::map<std::string, std::string> fields_of(const http::Request& request) {
  std::map<std::string, std::string> fields;
  for (const std::string& line : request.headers) {
    const size_t colon = line.find(':');
    const size_t value = std::min(line.find_first_not_of(' ', colon + 1), line.size());
    fields[lower(line.substr(0, colon))] = line.substr(value);
  }
  return fields;
}

std::string length_of(const http::Request& request) {
  uint64_t length = request.text.size();
  for (const http::BodyPart& part : request.parts) length += part.length;
  return length == 0 ? "" : std::to_string(length);
}

// The path, and each parameter of the query on a line of its own, sorted.
std::string resource_of(const std::string& account, const std::string& target) {
  const size_t mark = std::min(target.find('?'), target.size());
  std::string resource = "/" + account + target.substr(0, mark);
  std::multimap<std::string, std::string> parameters;
  for (size_t at = mark + 1; at < target.size();) {
    const size_t end = std::min(target.find('&', at), target.size());
    const std::string pair = target.substr(at, end - at);
    const size_t equals = std::min(pair.find('='), pair.size());
    parameters.emplace(lower(percent_decoded(pair.substr(0, equals))),
                       equals < pair.size() ? percent_decoded(pair.substr(equals + 1)) : "");
    at = end + 1;
  }
  for (const auto& [name, value] : parameters) resource += "\n" + name + ":" + value;
  return resource;
}

class SharedKey final : public http::Credential {
 public:
  SharedKey(std::string account, std::string key, const Clock& clock)
      : account_(std::move(account)), key_(std::move(key)), clock_(clock) {}

  void authorize(http::Request& request) const override {
    request.headers.push_back("x-ms-date: " + date_text(clock_.wall_now()));
    const std::string text = string_to_sign(account_, request);
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest = {};
    unsigned length = 0;
    if (HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()),
             reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data(),
             &length) == nullptr)
      throw std::bad_alloc();
    request.authorization = "SharedKey " + account_ + ":" +
                            base64({reinterpret_cast<const char*>(digest.data()), length});
  }

 private:
  const std::string account_;
  const std::string key_;  // a secret
  const Clock& clock_;
};

}  // namespace

std::string string_to_sign(const std::string& account, const http::Request& request) {
  const std::map<std::string, std::string> fields = fields_of(request);
  const auto field = [&](const char* name) {
    const auto found = fields.find(name);
    return found == fields.end() ? "" : found->second;
  };
  std::string text = std::string(http::method_name(request.method)) + "\n";
  text += field("content-encoding") + "\n" + field("content-language") + "\n";
  text += length_of(request) + "\n" + field("content-md5") + "\n" + field("content-type") + "\n";
  text += "\n";  // the date is in x-ms-date
  for (const char* name :
       {"if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"})
    text += field(name) + "\n";
  for (const auto& [name, value] : fields)
    if (name.starts_with("x-ms-")) text += name + ":" + value + "\n";
  return text + resource_of(account, request.target);
}

http::CredentialPtr make_shared_key(const std::string& account, const std::string& key,
                                    const Clock& clock) {
  std::string bytes = from_base64(key);
  if (bytes.empty()) return nullptr;
  return std::make_shared<SharedKey>(account, std::move(bytes), clock);
}

}  // namespace upload::target
