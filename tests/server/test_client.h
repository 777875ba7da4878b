// SPDX-License-Identifier: BSD-3-Clause
//
// A plain client of the images API for testing the test server itself: one libcurl easy
// handle, which is one connection at a time. Not thread safe. It hides nothing: what
// libcurl says comes back as it is.
//
// Every request is sent as it is asked for, on the connection that the handle has; when
// there is none, or libcurl thinks that it is dead, a new one is made, which the answer
// tells by new_connections. Bodies have an exact length and there is no Expect. This is
// not an example of how to write a careful client: it may resend behind one's back.

#pragma once

#include <curl/curl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace upload::testserver {

struct Answer {
  CURLcode code = CURLE_OK;
  long status = 0;  // 0 if no status line was understood
  long new_connections = 0;
  std::string header{};  // as received, the status line included
  std::string body{};

  [[nodiscard]] bool ok() const { return code == CURLE_OK && status / 100 == 2; }
};

struct ClientOptions {
  std::string ca_file{};
  std::string client_cert{};
  std::string client_key{};
  std::string unix_socket{};    // path or @NAME
  std::string authorization{};  // header value
  long timeout_ms = 20'000;
  bool never_reconnect = false;  // only the first connection; then CURLE_COULDNT_CONNECT
};

class TestClient {
 public:
  /// `url` is an image's; for a unix socket the host does not matter.
  TestClient(std::string url, ClientOptions options);

  Answer request(const std::string& method, const std::string& suffix,
                 const std::vector<std::string>& headers, std::string_view body);

  Answer options() { return request("OPTIONS", "", {}, {}); }
  Answer extents() { return request("GET", "/extents?context=zero", {}, {}); }
  Answer put(std::uint64_t offset, std::string_view data, bool flush);
  Answer zero(std::uint64_t offset, std::uint64_t length, bool flush);
  Answer flush();
  Answer get(std::uint64_t offset, std::uint64_t length);

  /// Closes the connection; the next request opens another one, in any case.
  void close();

 private:
  struct FreeHandle {
    void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
  };

  void open();
  static curl_socket_t open_socket(void* self, curlsocktype purpose, curl_sockaddr* address);

  const std::string url_;
  const ClientOptions options_;
  bool connected_ = false;
  std::unique_ptr<CURL, FreeHandle> handle_;
};

namespace test_client {

struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

inline std::size_t append(char* data, std::size_t size, std::size_t count, void* text) {
  static_cast<std::string*>(text)->append(data, size * count);
  return size * count;
}

inline std::size_t take(char* out, std::size_t size, std::size_t count, void* user_data) {
  auto& rest = *static_cast<std::string_view*>(user_data);
  const std::size_t n = std::min(size * count, rest.size());
  std::memcpy(out, rest.data(), n);
  rest.remove_prefix(n);
  return n;
}

}  // namespace test_client

inline TestClient::TestClient(std::string url, ClientOptions options)
    : url_(std::move(url)), options_(std::move(options)) {
  open();
}

inline void TestClient::open() {
  connected_ = false;
  handle_.reset(curl_easy_init());
}

inline curl_socket_t TestClient::open_socket(void* self, curlsocktype, curl_sockaddr* address) {
  auto& client = *static_cast<TestClient*>(self);
  // The server listens on an IPv4 address only; trying ::1 does not count.
  if (client.connected_ || address->family == AF_INET6) {
    return CURL_SOCKET_BAD;
  }
  client.connected_ = true;
  return ::socket(address->family, address->socktype, address->protocol);
}

inline void TestClient::close() {
  handle_.reset();
  open();
}

inline Answer TestClient::request(const std::string& method, const std::string& suffix,
                                  const std::vector<std::string>& headers,
                                  std::string_view body) {
  Answer answer;
  CURL* const curl = handle_.get();
  curl_easy_reset(curl);  // keeps the connection
  const std::string url = url_ + suffix;
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, options_.timeout_ms);
  curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method.c_str());
  if (method == "HEAD") {
    curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
  }
  const auto set_text = [curl](CURLoption option, const std::string& value) {
    if (!value.empty()) {
      curl_easy_setopt(curl, option, value.c_str());
    }
  };
  if (options_.never_reconnect) {
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, &TestClient::open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, this);
  }
  set_text(CURLOPT_CAINFO, options_.ca_file);
  set_text(CURLOPT_SSLCERT, options_.client_cert);
  set_text(CURLOPT_SSLKEY, options_.client_key);
  if (options_.unix_socket.starts_with('@')) {
    set_text(CURLOPT_ABSTRACT_UNIX_SOCKET, options_.unix_socket.substr(1));
  } else {
    set_text(CURLOPT_UNIX_SOCKET_PATH, options_.unix_socket);
  }

  curl_slist* list = curl_slist_append(nullptr, "Expect:");
  if (!options_.authorization.empty()) {
    list = curl_slist_append(list, ("Authorization: " + options_.authorization).c_str());
  }
  for (const std::string& header : headers) {
    list = curl_slist_append(list, header.c_str());
  }
  const std::unique_ptr<curl_slist, test_client::FreeList> owned_list(list);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);

  std::string_view rest = body;
  if (method == "PUT" || !body.empty()) {
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, test_client::take);
    curl_easy_setopt(curl, CURLOPT_READDATA, &rest);
    curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(body.size()));
  }
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, test_client::append);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer.body);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, test_client::append);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &answer.header);

  answer.code = curl_easy_perform(curl);
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.status);
  curl_easy_getinfo(curl, CURLINFO_NUM_CONNECTS, &answer.new_connections);
  return answer;
}

inline Answer TestClient::put(std::uint64_t offset, std::string_view data, bool flush) {
  return request("PUT", flush ? "?flush=y" : "?flush=n",
                 {"Content-Range: bytes " + std::to_string(offset) + "-*/*"}, data);
}

inline Answer TestClient::zero(std::uint64_t offset, std::uint64_t length, bool flush) {
  return request("PATCH", "", {"Content-Type: application/json"},
                 R"({"op":"zero","offset":)" + std::to_string(offset) + R"(,"size":)" +
                     std::to_string(length) + R"(,"flush":)" + (flush ? "true}" : "false}"));
}

inline Answer TestClient::flush() {
  return request("PATCH", "", {"Content-Type: application/json"}, R"({"op":"flush"})");
}

inline Answer TestClient::get(std::uint64_t offset, std::uint64_t length) {
  return request(
      "GET", "",
      {"Range: bytes=" + std::to_string(offset) + "-" + std::to_string(offset + length - 1)}, {});
}

}  // namespace upload::testserver
