// SPDX-License-Identifier: BSD-3-Clause
//
// The reply may be hours away, since the server reads the whole disk for it: only connecting has a
// time limit. A connection that is dead is found by TCP's keep-alive.

#include "server_request.h"

#include <curl/curl.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

namespace nbdupload {

namespace {

using nlohmann::json;

constexpr char kFlag[] = "--ask-server";
constexpr long kConnectSeconds = 30;
// A reply is not larger, in bytes.
constexpr size_t kLargestReply = size_t{1} << 20;

std::string below(const std::string& url, const std::string& resource, const std::string& query) {
  const size_t end = std::min(url.find_first_of("?#"), url.size());
  std::string all = url.substr(0, end) + resource;
  const std::string own = end < url.size() && url[end] == '?' ? url.substr(end + 1) : "";
  if (!own.empty()) all += "?" + own;
  if (!query.empty()) all += (own.empty() ? "?" : "&") + query;
  return all;
}

size_t take(const char* data, size_t, size_t count, void* reply) {
  auto& text = *static_cast<std::string*>(reply);
  if (text.size() + count > kLargestReply) return 0;
  text.append(data, count);
  return count;
}

struct Freed {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

void set_text(CURL* curl, CURLoption option, const json& request, const char* key) {
  if (request.contains(key))
    curl_easy_setopt(curl, option, request[key].get_ref<const std::string&>().c_str());
}

void set_up(CURL* curl, const json& request) {
  set_text(curl, CURLOPT_URL, request, "url");
  set_text(curl, CURLOPT_CAINFO, request, "cafile");
  set_text(curl, CURLOPT_SSLCERT, request, "cert");
  set_text(curl, CURLOPT_SSLKEY, request, "key");
  set_text(curl, CURLOPT_USERNAME, request, "user");
  set_text(curl, CURLOPT_PASSWORD, request, "password");
  set_text(curl, CURLOPT_XOAUTH2_BEARER, request, "token");
  set_text(curl, CURLOPT_PROXY, request, "proxy");
  if (request.contains("token")) curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
  if (request.value("insecure", "") == "true") {
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_HTTPPROXYTUNNEL, 1L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
}

std::string read_all(int fd) {
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t got = 0; (got = read(fd, buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<size_t>(got));
  return text;
}

int ask(const json& request) {
  const std::unique_ptr<CURL, Freed> curl(curl_easy_init());
  if (!request.is_object() || curl == nullptr) return 1;
  set_up(curl.get(), request);
  std::unique_ptr<curl_slist, Freed> headers;
  for (const json& header : request["headers"])
    headers.reset(curl_slist_append(headers.release(), header.get<std::string>().c_str()));
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  std::string reply;
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, take);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &reply);
  if (const CURLcode error = curl_easy_perform(curl.get()); error != CURLE_OK) {
    fprintf(stderr, "%s\n", curl_easy_strerror(error));
    return 1;
  }
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status != 200) {
    fprintf(stderr, "the server answers %ld\n", status);
    // An old one takes all that follows /images/ for a ticket.
    return status == 400 || status == 403 || status == 404 || status == 405 ? kNotThere : 1;
  }
  return fwrite(reply.data(), 1, reply.size(), stdout) == reply.size() && fflush(stdout) == 0 ? 0
                                                                                              : 1;
}

}  // namespace

std::string unknown_to_requests(const Parameters& parameters) {
  for (const Parameter& parameter : parameters.list()) {
    if (parameter.key == "token-url" || parameter.key == "token-script") return parameter.key;
    if (parameter.key == "unix-socket" && parameter.value != "auto" && parameter.value != "none")
      return parameter.key;
  }
  return "";
}

std::string request_for(const Target& target, const Parameters& parameters,
                        const std::string& resource, const std::string& query) {
  json request = {{"url", below(target.url, resource, query)}, {"headers", json::array()}};
  for (const Parameter& parameter : parameters.list()) {
    const std::string& value = parameter.secret ? *parameter.secret : parameter.value;
    if (parameter.key == "header")
      request["headers"].push_back(value);
    else if (parameter.key != "url")
      request[parameter.key] = value;
  }
  return request.dump(-1, ' ', true, json::error_handler_t::replace);
}

std::vector<std::string> request_words(int fd) {
  return {"/proc/self/exe", kFlag, std::to_string(fd)};
}

void run_request(int argc, char** argv) {
  if (argc != 3 || strcmp(argv[1], kFlag) != 0) return;
  exit(ask(json::parse(read_all(atoi(argv[2])), nullptr, false)));
}

}  // namespace nbdupload
